"""The first edition's recipes (5.2) as a hand-written Keras script: what a Keras user would run.

Keras' own image layers in front of the network, its own reader with prefetch, `compile` and `fit`.
Prints one JSON line per epoch: epoch, images, seconds. With --evaluate it validates after each
epoch, and prints accuracy and loss of the best epoch's weights on validation and test at the end,
which is what configs/scratch.yaml and configs/augmented.yaml do. FOLDER has train, and for
--evaluate also validation and test.

    python keras_script.py FOLDER --batch 32 --epochs 3 --augment
    python keras_script.py FOLDER --batch 20 --steps 100 --epochs 30 --evaluate --seed 1
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import keras
from keras import layers

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path, help="folder of split folders")
parser.add_argument("--size", type=int, default=150)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--steps", type=int, help="batches in an epoch; default: one pass")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--augment", action="store_true", help="the augmented recipe, with dropout")
parser.add_argument("--evaluate", action="store_true", help="validate, keep the best, test it")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--precision", default="float32", help="a Keras dtype policy")
parser.add_argument("--jit", choices=["auto", "off"], default="auto", help="Keras' jit_compile")
options = parser.parse_args()

keras.utils.set_random_seed(options.seed)
keras.config.set_dtype_policy(options.precision)


class EpochTimes(keras.callbacks.Callback):
    """Prints how long each epoch took."""

    def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
        """Print the time."""
        row = {"epoch": epoch + 1, "images": images_per_epoch}
        print(json.dumps(row | {"seconds": time.perf_counter() - self.start}), flush=True)


def read(split, **settings):
    """One split as a tf.data pipeline of batches."""
    return keras.utils.image_dataset_from_directory(
        options.folder / split,
        image_size=(options.size, options.size),
        batch_size=options.batch,
        verbose=False,
        **settings,
    )


train = read("train", seed=options.seed)
num_classes = len(train.class_names)
images_per_epoch = options.steps * options.batch if options.steps else len(train.file_paths)

# Coordinates in bfloat16 would blur the images: the image layers stay in float32.
augmentation = [
    layers.RandomFlip("horizontal", dtype="float32"),
    layers.RandomRotation(40 / 360, fill_mode="nearest", dtype="float32"),
    layers.RandomTranslation(0.2, 0.2, fill_mode="nearest", dtype="float32"),
    layers.RandomShear(0.2, 0.0, fill_mode="nearest", dtype="float32"),
    layers.RandomZoom((-0.2, 0.2), fill_mode="nearest", dtype="float32"),
]
model = keras.Sequential(
    [
        keras.Input((options.size, options.size, 3)),
        *(augmentation if options.augment else []),
        layers.Rescaling(1 / 255),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(128, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(128, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        *([layers.Dropout(0.5)] if options.augment else []),
        layers.Dense(512, activation="relu"),
        layers.Dense(num_classes, activation="softmax", dtype="float32"),
    ]
)
model.compile(
    optimizer=keras.optimizers.RMSprop(1e-4),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    jit_compile="auto" if options.jit == "auto" else False,
)

with tempfile.TemporaryDirectory() as folder:
    best = Path(folder, "best.weights.h5")
    callbacks = [EpochTimes()]
    if options.evaluate:
        callbacks.append(
            keras.callbacks.ModelCheckpoint(best, save_best_only=True, save_weights_only=True)
        )
    model.fit(
        (train.repeat() if options.steps else train).prefetch(2),
        steps_per_epoch=options.steps,
        epochs=options.epochs,
        validation_data=read("validation", shuffle=False) if options.evaluate else None,
        callbacks=callbacks,
        verbose=0,
    )
    if options.evaluate:
        model.load_weights(best)
        for split in ("validation", "test"):
            loss, accuracy = model.evaluate(read(split, shuffle=False), verbose=0)
            print(json.dumps({"split": split, "accuracy": accuracy, "loss": loss}))
