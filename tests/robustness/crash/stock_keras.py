"""A training as plain Keras has it, with the callbacks that Keras has against interruptions.

The net, the random changes of the images, dropout, early stopping and the plateau are those of the
`fit` that is killed; the same command line starts it and goes on with it.
"""

import argparse
import json
from pathlib import Path


def main() -> None:
    """Train on the images of a folder, or go on; leave best.keras, history.csv and metrics.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--double", action="store_true", help="BackupAndRestore(double_checkpoint)")
    parser.add_argument("--every", type=int, help="BackupAndRestore(save_freq): so many batches")
    parser.add_argument(
        "--plain", action="store_true", help="no dropout, nothing random or shuffled"
    )
    options = parser.parse_args()

    import keras
    import tensorflow as tf
    from keras import callbacks, layers

    keras.utils.set_random_seed(options.seed)
    tf.config.experimental.enable_op_determinism()

    def read(split: str) -> tf.data.Dataset:
        return keras.utils.image_dataset_from_directory(
            options.images / split,
            image_size=(32, 32),
            batch_size=None,
            shuffle=False,
            verbose=False,
        ).cache()

    train, validation, test = (read(split) for split in ("train", "validation", "test"))
    if not options.plain:
        train = train.shuffle(1000, seed=options.seed)
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), *_changes(options), layers.Rescaling(1 / 255)]
    )
    for filters in (8, 8, 16):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    if not options.plain:
        model.add(layers.Dropout(0.3, seed=options.seed))
    model.add(layers.Dense(8, activation="relu"))
    model.add(layers.Dense(3, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.learning_rate = 1e-3
    model.fit(
        train.batch(8),
        epochs=9,
        shuffle=False,  # the dataset does it
        validation_data=validation.batch(64),
        verbose=0,
        callbacks=[
            callbacks.BackupAndRestore(
                "backup",
                save_freq=options.every or "epoch",
                double_checkpoint=options.double,
            ),
            callbacks.ModelCheckpoint("best.keras", save_best_only=True),
            callbacks.ReduceLROnPlateau(patience=1, factor=0.5),
            callbacks.EarlyStopping(patience=4),
            callbacks.CSVLogger("history.csv", append=True),
        ],
    )
    best = keras.models.load_model("best.keras")
    metrics = best.evaluate(test.batch(64), verbose=0, return_dict=True)
    Path("metrics.json").write_text(json.dumps(metrics))


def _changes(options: argparse.Namespace) -> list:
    from keras import layers

    if options.plain:
        return []
    return [
        layers.RandomFlip("horizontal", seed=options.seed),
        layers.RandomRotation(15 / 360, seed=options.seed),
        layers.RandomTranslation(0.1, 0.1, seed=options.seed),
        layers.RandomZoom(0.1, seed=options.seed),
        layers.RandomBrightness(0.1, seed=options.seed),
    ]


if __name__ == "__main__":
    main()
