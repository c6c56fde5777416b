"""The book's augmented recipe as a hand-written Keras script: what a Keras user would run instead.

Keras' own image layers in front of the network, its own reader with prefetch, default compile and
fit. Prints one JSON line per epoch: epoch, images, seconds.

    python keras_script.py FOLDER --size 150 --batch 32 --epochs 3
"""

import argparse
import json
import time
from pathlib import Path

import keras
from keras import layers

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path, help="one folder per class")
parser.add_argument("--size", type=int, default=150)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--epochs", type=int, default=3)
options = parser.parse_args()

train = keras.utils.image_dataset_from_directory(
    options.folder,
    image_size=(options.size, options.size),
    batch_size=options.batch,
    verbose=False,
)
num_classes, num_images = len(train.class_names), len(train.file_paths)

model = keras.Sequential(
    [
        keras.Input((options.size, options.size, 3)),
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(40 / 360, fill_mode="nearest"),
        layers.RandomTranslation(0.2, 0.2, fill_mode="nearest"),
        layers.RandomShear(0.2, 0.0, fill_mode="nearest"),
        layers.RandomZoom((-0.2, 0.2), fill_mode="nearest"),
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
        layers.Dropout(0.5),
        layers.Dense(512, activation="relu"),
        layers.Dense(num_classes, activation="softmax"),
    ]
)
model.compile(
    optimizer=keras.optimizers.RMSprop(1e-4),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)


class EpochTimes(keras.callbacks.Callback):
    """Prints how long each epoch took."""

    def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
        """Print the time."""
        seconds = time.perf_counter() - self.start
        print(json.dumps({"epoch": epoch + 1, "images": num_images, "seconds": seconds}))


model.fit(train.prefetch(2), epochs=options.epochs, callbacks=[EpochTimes()], verbose=0)
