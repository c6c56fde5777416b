"""The first edition's recipes (5.2) as a plain Keras script: how accurate are they?

The same network, optimizer, steps and choice of the best epoch as configs/scratch.yaml and
configs/augmented.yaml, by Keras' own means. Prints one JSON line: accuracy and loss of the best
epoch's weights on validation and test. FOLDER has train, validation and test.

    python keras_recipe.py FOLDER --seed 0 --epochs 30 --batch 20
    python keras_recipe.py FOLDER --seed 0 --epochs 100 --batch 32 --augment
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
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--size", type=int, default=150)
parser.add_argument("--batch", type=int, default=20)
parser.add_argument("--steps", type=int, default=100, help="batches in an epoch")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--augment", action="store_true")
parser.add_argument("--precision", default="float32", help="a Keras dtype policy")
options = parser.parse_args()

keras.utils.set_random_seed(options.seed)
keras.config.set_dtype_policy(options.precision)


def read(split: str, **settings):
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
validation, test = read("validation", shuffle=False), read("test", shuffle=False)

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
    jit_compile=False,
)
started = time.perf_counter()
with tempfile.TemporaryDirectory() as folder:
    best = Path(folder, "best.weights.h5")
    model.fit(
        train.repeat().prefetch(2),
        steps_per_epoch=options.steps,
        epochs=options.epochs,
        validation_data=validation,
        callbacks=[
            keras.callbacks.ModelCheckpoint(best, save_best_only=True, save_weights_only=True)
        ],
        verbose=0,
    )
    model.load_weights(best)
result = {"seed": options.seed, "augment": options.augment, "precision": options.precision}
result["minutes"] = (time.perf_counter() - started) / 60
for name, data in (("validation", validation), ("test", test)):
    loss, accuracy = model.evaluate(data, verbose=0)
    result[name] = {"accuracy": accuracy, "loss": loss}
print(json.dumps(result))
