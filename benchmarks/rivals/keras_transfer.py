"""The second edition's transfer recipes (8.3) as a hand-written Keras script.

A frozen backbone end to end behind augmentation, then its top trained on at a low rate, with Keras'
own image layers, its own reader with prefetch, `compile` and `fit`: each epoch runs every image
through the whole base. Prints one JSON line per epoch (stage, epoch, images, seconds) and one per
stage (stage, total). With --evaluate it validates after each epoch, keeps the best epoch's weights,
and prints accuracy and loss on validation and test after each stage. FOLDER has train, and for
--evaluate also validation and test.

    python keras_transfer.py FOLDER --frozen 50 --finetune 30
    python keras_transfer.py FOLDER --base mobilenet --weights FILE --size 224 --frozen 20 \
        --finetune 10 --unfreeze-from conv_dw_12 --evaluate
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import keras
from keras import layers

BACKBONES = {
    "vgg16": (keras.applications.VGG16, keras.applications.vgg16.preprocess_input),
    "mobilenet": (keras.applications.MobileNet, keras.applications.mobilenet.preprocess_input),
}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path, help="folder of split folders")
parser.add_argument("--base", choices=BACKBONES, default="vgg16")
parser.add_argument("--alpha", type=float, default=0.25, help="width of mobilenet")
parser.add_argument("--weights", help="file with the weights of the backbone; default: random")
parser.add_argument("--size", type=int, default=180)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--frozen", type=int, default=2, help="epochs with the backbone frozen")
parser.add_argument("--finetune", type=int, default=2, help="epochs with its top trained")
parser.add_argument("--unfreeze-from", default="block5_conv1", help="the first layer trained then")
parser.add_argument("--evaluate", action="store_true", help="validate, keep the best, test it")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--precision", default="float32", help="a Keras dtype policy")
parser.add_argument("--jit", choices=["auto", "off"], default="auto", help="Keras' jit_compile")
options = parser.parse_args()

keras.utils.set_random_seed(options.seed)
keras.config.set_dtype_policy(options.precision)


class EpochTimes(keras.callbacks.Callback):
    """Prints how long each epoch took."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
        """Print the time."""
        seconds = time.perf_counter() - self.start
        row = {"stage": self.stage, "epoch": epoch + 1, "images": num_images, "seconds": seconds}
        print(json.dumps(row), flush=True)


def read(split, **settings):
    """One split as a tf.data pipeline of batches."""
    return keras.utils.image_dataset_from_directory(
        options.folder / split,
        image_size=(options.size, options.size),
        batch_size=options.batch,
        verbose=False,
        **settings,
    )


def train_stage(stage, epochs, optimizer):
    """Compile, fit and, if asked, evaluate the best epoch's weights."""
    start = time.perf_counter()
    model.compile(
        optimizer=optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile="auto" if options.jit == "auto" else False,
    )
    callbacks = [EpochTimes(stage)]
    with tempfile.TemporaryDirectory() as folder:
        best = Path(folder, "best.weights.h5")
        if options.evaluate:
            callbacks.append(
                keras.callbacks.ModelCheckpoint(best, save_best_only=True, save_weights_only=True)
            )
        model.fit(
            train.prefetch(2),
            epochs=epochs,
            validation_data=read("validation", shuffle=False) if options.evaluate else None,
            callbacks=callbacks,
            verbose=0,
        )
        print(json.dumps({"stage": stage, "total": time.perf_counter() - start}), flush=True)
        if options.evaluate:
            model.load_weights(best)
            for split in ("validation", "test"):
                loss, accuracy = model.evaluate(read(split, shuffle=False), verbose=0)
                row = {"stage": stage, "split": split, "accuracy": accuracy, "loss": loss}
                print(json.dumps(row), flush=True)


train = read("train", seed=options.seed)
num_classes = len(train.class_names)
num_images = len(train.file_paths)

build_base, preprocess_input = BACKBONES[options.base]
base = build_base(
    include_top=False,
    weights=options.weights,
    input_shape=(options.size, options.size, 3),
    **({"alpha": options.alpha} if options.base == "mobilenet" else {}),
)
base.trainable = False

# Coordinates in bfloat16 would blur the images: the image layers stay in float32.
inputs = keras.Input((options.size, options.size, 3))
x = layers.RandomFlip("horizontal", dtype="float32")(inputs)
x = layers.RandomRotation(0.1, dtype="float32")(x)
x = layers.RandomZoom(0.2, dtype="float32")(x)
x = preprocess_input(x)
x = base(x, training=False)
x = layers.Flatten()(x)
x = layers.Dense(256)(x)
x = layers.Dropout(0.5)(x)
outputs = layers.Dense(num_classes, activation="softmax", dtype="float32")(x)
model = keras.Model(inputs, outputs)

if options.frozen:
    train_stage("frozen", options.frozen, keras.optimizers.RMSprop())
if options.finetune:
    base.trainable = True
    names = [layer.name for layer in base.layers]
    for layer in base.layers[: names.index(options.unfreeze_from)]:
        layer.trainable = False
    train_stage("finetune", options.finetune, keras.optimizers.RMSprop(1e-5))
