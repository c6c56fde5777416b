"""Sound inputs for each target, made in code: fuzzing begins with them."""

import functools
import gzip
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from run_folders import make_run

from cvtrain.evaluation.mislabels import LikelyMislabel, mislabels_csv
from cvtrain.features.store import KEY_BYTES, FeatureStore
from cvtrain.training.checkpoint import Checkpoints, Snapshot

SNAPSHOT = Snapshot(
    {"epoch": 3, "loss": 0.1 + 0.2, "history": [{"epoch": 1, "val_loss": 0.5}]},
    {
        "model/0": np.arange(12, dtype=np.float32).reshape(3, 4),
        "model/1": np.array([1, 2**32 - 1], np.uint32),
        "optimizer/0": np.array(7),
    },
)
ROWS = np.random.default_rng(0).random((4, 2, 3), np.float32)
KEYS = [bytes([number]) * KEY_BYTES for number in range(len(ROWS))]

RUN_FILES = {
    Path(name).name: name
    for name in (
        "run.json",
        "config.yaml",
        "split.json",
        "history.csv",
        "predictions-test.csv",
        "mislabels.csv",
        "abstention.json",
        "mistakes/mistakes.json",
        "evaluate/again/metrics.json",
    )
}

CONFIG = """\
# What a person writes.
seed: 7
data:
  source: photos   # relative to this file
  classes: [cat, 'dog', "owl"]
  image_size: [150, 200]
  split: {validation: .2, test: 1e-1}
augment: &changes
  flip: horizontal
  rotate: 0x10
fit:
  epochs: 20
  optimizer: {name: adam, learning_rate: 1e-3}
  model:
    filters: [8, 16]
    dense: []
extract_features:
  backbone: {name: mobilenet, weights: none, alpha: .25}
finetune: ~
"""


def yaml_text() -> list[bytes]:
    """Two documents that have most of the syntax."""
    more = "? key\n: |-\n  text\n  more\n'a b': >\n  folded\nx: &a [1, {b: ~}]\ny: *a\n"
    return [CONFIG.encode(), more.encode()]


def override() -> list[bytes]:
    """Values of several kinds."""
    return [
        b"fit.epochs=5",
        b"data.classes=['08', \"owl\"]",
        b"augment={flip: both, rotate: 1e1}",
        b"finetune.then=[{unfreeze_blocks: 2}]",
    ]


def image() -> list[bytes]:
    """Small files of every kind that is read, plain and with everything that hangs on them."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (9, 13, 3), np.uint8))
    grey, frames = colour.convert("L"), {"save_all": True, "append_images": [colour.rotate(90)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        _encoded(colour, "JPEG", exif=exif, quality=80),
        _encoded(colour, "JPEG", progressive=True, subsampling=2),
        _encoded(colour.convert("CMYK"), "JPEG"),
        _encoded(colour, "PNG", exif=exif),
        _encoded(colour.convert("RGBA"), "PNG"),
        _encoded(colour.convert("P"), "PNG", transparency=3),
        _encoded(Image.fromarray(rng.integers(0, 65536, (5, 4), np.uint16)), "PNG"),
        _encoded(colour, "PNG", **frames),
        _encoded(colour, "GIF", **frames),
        _encoded(colour, "BMP"),
        _encoded(grey.convert("1"), "BMP"),
        rle_bmp(),
        _encoded(colour, "WEBP", exif=exif),
        _encoded(colour.convert("RGBA"), "WEBP", lossless=True, **frames),
        _encoded(colour, "TIFF"),
    ]


def rle_bmp(width: int = 6, height: int = 2, body: bytes = b"\6\1\0\0\3\2\3\0\0\1") -> bytes:
    """A run-length encoded BMP, which Pillow reads and does not write."""
    palette = bytes(range(256)) * 4
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    at = 14 + len(head) + len(palette)
    return struct.pack("<2sIHHI", b"BM", at + len(body), 0, 0, at) + head + palette + body


@functools.cache
def checkpoint() -> list[bytes]:
    """The file of `SNAPSHOT`."""
    with tempfile.TemporaryDirectory() as folder:
        Checkpoints(Path(folder)).save(SNAPSHOT)
        (path,) = Path(folder).glob("checkpoint-*")
        return [path.read_bytes()]


def sealed_checkpoint() -> list[bytes]:
    """The same without its digest, and an archive that is compressed."""
    packed = io.BytesIO()
    np.savez_compressed(packed, json=np.array("{}"), x=np.zeros(99))
    return [checkpoint()[0][:-64], packed.getvalue()]


@functools.cache
def features() -> list[bytes]:
    """The shard of `ROWS`."""
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), shape=ROWS.shape[1:], dtype="float32")
        store.commit(KEYS, [ROWS])
        (path,) = Path(folder).glob("*.npy")
        return [path.read_bytes()]


def manifest() -> list[bytes]:
    """With splits and without, with quotes and a byte order mark; of other columns, with ones."""
    return [
        b"sep=;\nid;breed;fold\na;cat;train\nd;dog;test\n",
        b"filename\tcat\tdog\na.jpg\t1\t0\nb%20c\\D.png\t0.0\t1.0\n",
        b"a.jpg,cat\n'/home/x/b c/d',cat|dog\n",
        b",path,label\n0,C:\\x\\a.jpg,cat\n1,https://x/d.png,dog\n",
        b"label," + b",".join(b"p%d" % i for i in range(64)) + b"\n1" + b",7" * 64,
        b'path,label,split\na.jpg,cat,train\n"b c/d.png","dog",val\n',
        b"\xef\xbb\xbflabel,path\r\ncat,a.jpg\r\ndog,./b c/d.png\r\n",
    ]


def json_lines() -> list[bytes]:
    """Of Hugging Face's keys and of others."""
    return [
        b'{"file_name": "a.jpg", "label": "cat", "n": [1]}\n{"file_name": "b c/d.png", "label": 3}',
        b'{"image": "a", "text": null}\n\n{"image": "d", "text": true, "more": {"x": 1e99}}\n',
    ]


def pattern() -> list[bytes]:
    """Regular expressions of one group, and of none."""
    return [rb"(cat|dog)\.", rb"^(?:left|right)_(?P<patient>p\d+)", b"[a-z]+(?=x){2,3}"]


class Variable:
    """Takes the place of a Keras variable."""

    def __init__(self, *shape: int):
        self.shape = shape
        self.value = np.zeros(shape, np.float32)

    def assign(self, value: np.ndarray) -> None:
        """Keep the value."""
        self.value = value


class _Layer:
    def __init__(self, name: str, trainable: Sequence[Variable], frozen: Sequence[Variable] = ()):
        self.name = name
        self.trainable_weights, self.non_trainable_weights = list(trainable), list(frozen)
        self.weights = self.trainable_weights + self.non_trainable_weights


class Conv2D(_Layer):
    """Named as Keras names it, because files of weights follow the class."""


class BatchNormalization(_Layer):
    """Likewise."""


class Network:
    """Two layers as `load_weights` sees those of Keras, without an engine to load."""

    def __init__(self) -> None:
        self.layers = [
            Conv2D("conv1", [Variable(2, 2, 3, 4), Variable(4)]),
            BatchNormalization("norm", [Variable(4), Variable(4)], [Variable(4), Variable(4)]),
        ]

    @property
    def variables(self) -> list[Variable]:
        """All of them."""
        return [variable for layer in self.layers for variable in layer.weights]


@functools.cache
def weights() -> list[bytes]:
    """A file of each layout."""
    return [_h5(_older_layout), _h5(_keras3_layout)]


def _older_layout(file: h5py.File) -> None:
    file.attrs["layer_names"] = ["conv1", "norm"]
    for layer in Network().layers:
        group = file.create_group(layer.name)
        names = [f"{layer.name}/{number}:0" for number in range(len(layer.weights))]
        group.attrs["weight_names"] = names
        for name, variable in zip(names, layer.weights, strict=True):
            group[name] = variable.value


def _keras3_layout(file: h5py.File) -> None:
    for path, layer in zip(("conv2d", "batch_normalization"), Network().layers, strict=True):
        for number, variable in enumerate(layer.weights):
            file[f"layers/{path}/vars/{number}"] = variable.value


def _h5(write: Callable[[h5py.File], None]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write(file)
    return content.getvalue()


MODEL = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "name": "tiny",
        "trainable": True,
        "dtype": {
            "module": "keras",
            "class_name": "DTypePolicy",
            "config": {"name": "float32"},
            "registered_name": None,
        },
        "layers": [
            {
                "module": "keras.layers",
                "class_name": "Conv2D",
                "config": {
                    "name": "conv",
                    "filters": 4,
                    "kernel_size": [2, 2],
                    "activation": "relu",
                },
                "registered_name": None,
            },
        ],
    },
    "registered_name": None,
}


@functools.cache
def model() -> list[bytes]:
    """The parts of a `.keras` file."""
    return [keras_file(json.dumps(MODEL), weights()[1])]


def keras_file(config: str, weights: bytes) -> bytes:
    """A `.keras` file of these parts."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights)
    return content.getvalue()


def arrays() -> list[bytes]:
    """The layout of keras.datasets, stored and compressed."""
    images, labels = np.zeros((3, 4, 5), np.uint8), np.arange(3)
    contents = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    files = io.BytesIO(), io.BytesIO()
    np.savez(files[0], **contents)
    np.savez_compressed(files[1], **contents)
    return [file.getvalue() for file in files]


def idx() -> list[bytes]:
    """Labels of three images, gzipped and not."""
    content = bytes([0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2])
    return [content, gzip.compress(content, mtime=0)]


def write_run(folder: Path) -> Path:
    """A finished run that has every file that a report reads."""
    classes = ("cat", "dog")
    mistakes = {"num": 1, "method": "grad-cam", "layer": "conv2"}
    fields = {
        "mistakes": mistakes,
        "calibration": {"temperature": 2.0, "error_before": 0.3, "error_after": 0.1},
        "mislabels": {"num": 1, "judged": {"test": 6}},
        "freeze_proof": {"conv1": {"trained": False, "before": "a" * 64, "after": "a" * 64}},
    }
    make_run(folder, class_names=classes, num_test=6, images=False, epochs=2, **fields)
    image = folder.parent / "images" / "test/cat/000.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(_encoded(Image.new("RGB", (8, 8)), "PNG"))
    suspect = LikelyMislabel("test/cat/000.png", "test", "cat", "dog", 0.01, 0.9)
    mistake = {"file": "a.png", "true": "cat", "predicted": "dog", "p_true": 0.1}
    mistake |= {"p_predicted": 0.9, "picture": "01.jpg"}
    scores = {"num_images": 4, "accuracy": 0.5, "accuracy_interval": [0.2, 0.8], "loss": 0.7}
    for name, text in {
        "mislabels.csv": mislabels_csv([suspect]),
        "abstention.json": json.dumps({"threshold": 0.5, "test": {"coverage": 0.9, "risk": None}}),
        "mistakes.json": json.dumps([mistake]),
        "metrics.json": json.dumps({**scores, "split": "test", "source": "more"}),
    }.items():
        path = folder / RUN_FILES[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@functools.cache
def run_file() -> list[bytes]:
    """Each file that a report reads, after a line with its name."""
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run")
        return [
            f"{name}\n".encode() + (run / place).read_bytes() for name, place in RUN_FILES.items()
        ]


SEEDS = {
    "yaml_text": yaml_text,
    "config": yaml_text,
    "override": override,
    "image": image,
    "checkpoint": checkpoint,
    "sealed_checkpoint": sealed_checkpoint,
    "features": features,
    "manifest": manifest,
    "json_lines": json_lines,
    "pattern": pattern,
    "weights": weights,
    "model": model,
    "arrays": arrays,
    "idx": idx,
    "run_file": run_file,
    "page": run_file,
}


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()
