"""Files that hold images, and are no folder: what is said of them is done, then they are read."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_images import make_images

from cvtrain.data.index import build_index
from cvtrain.data.sources import locate_source
from cvtrain.errors import DataError


def told(source, tmp_path):
    with pytest.raises(DataError) as caught:
        locate_source(source, data_dir=tmp_path / "data")
    return caught.value


@pytest.mark.parametrize(
    ("kind", "suffix", "what"),
    [
        ("zip", ".zip", "a ZIP archive"),
        ("tar", ".tar", "a tar archive"),
        ("gztar", ".tar.gz", "a tar archive"),
    ],
)
def test_an_archive_is_unpacked_as_is_said(tmp_path, kind, suffix, what):
    make_images(tmp_path / "it's here", {"cat": 3, "dog": 3}, size=(8, 8))
    archive = shutil.make_archive(str(tmp_path / "my photos"), kind, tmp_path / "it's here")
    assert archive.endswith(suffix)
    error = told(archive, tmp_path)
    assert error.message == f"{archive}: {what}"
    words = shlex.split(error.advice.removeprefix("Unpack it, and name the folder: "))
    assert words[0] == "python"
    subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True)
    index = build_index(tmp_path / "my photos", validation=0, test=0, seed=0)
    assert index.counts == {"train": {"cat": 3, "dog": 3}}
    assert locate_source(tmp_path / "my photos", data_dir=tmp_path) == tmp_path / "my photos"


@pytest.mark.parametrize(
    ("name", "what", "advice"),
    [
        ("train-00000-of-00001.parquet", "a Parquet file", "Images in other files"),
        ("data-00000-of-00002.arrow", "an Arrow file", "Images in other files"),
        ("x-train.tfrecord-00000-of-00002", "a TFRecord file", "Images in other files"),
        ("x.TFRecords", "a TFRecord file", "Images in other files"),
        ("x.h5", "an HDF5 file", "Images in other files"),
        ("data.mdb", "an LMDB database", "lmdb"),
        ("data_batch_1", "a Python pickle, which can run any code", "cifar10"),
        ("train_32x32.mat", "a file of MATLAB", "savez_compressed"),
        ("x.npy", "an array without labels", "savez_compressed"),
        ("x.rar", "a packed file", "Unpack it"),
    ],
)
def test_a_file_and_a_folder_of_such_files(tmp_path, name, what, advice):
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for each in (name, "README.md", "dataset_info.json", ".gitattributes"):
        (folder / each).touch()
    error = told(folder / name, tmp_path)
    assert error.message.startswith(f"{folder / name}: {what}")
    assert advice in error.advice
    error = told(tmp_path / "set", tmp_path)
    assert error.message.startswith(f"{tmp_path / 'set'}: no images, but data/{name}, {what}")
    (folder / "cat.jpg").touch()
    assert locate_source(tmp_path / "set", data_dir=tmp_path) == tmp_path / "set"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("instances.json", "JSON, which may be annotations"),
        ("list.xlsx", "a spreadsheet"),
        ("cat.JPG", "one image"),
        ("cats.mp4", "a video"),
        ("config.yaml", "a config"),
    ],
)
def test_a_file_that_is_named_alone(tmp_path, name, what):
    (tmp_path / name).touch()
    assert told(tmp_path / name, tmp_path).message.startswith(f"{tmp_path / name}: {what}")


@pytest.mark.parametrize("name", ["notes.txt", "list.csv", "cat/1", "cat/1.jpg_large", "a.zip.jpg"])
def test_what_may_be_images_is_left_to_others(tmp_path, name):
    path = tmp_path / "set" / name
    path.parent.mkdir(parents=True)
    path.touch()
    (tmp_path / "set" / "x.zip").touch()
    if path.suffix not in (".txt", ".csv"):
        assert locate_source(tmp_path / "set", data_dir=tmp_path) == tmp_path / "set"
    (tmp_path / "set" / "x.zip").unlink()
    assert locate_source(tmp_path / "set", data_dir=tmp_path) == tmp_path / "set"


DOCS = Path(__file__).parents[2] / "docs" / "data.md"
WRITE_RECORDS = """
import tensorflow as tf
from pathlib import Path

with tf.io.TFRecordWriter("set/photos-train.tfrecord-00000-of-00001") as writer:
    for path in sorted(Path("truth").rglob("*.png")):
        label = tf.train.Feature(int64_list=tf.train.Int64List(value=[int(path.parent.name)]))
        image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[path.read_bytes()]))
        features = tf.train.Features(feature={"image": image, "label": label})
        writer.write(tf.train.Example(features=features).SerializeToString())
"""


def script_for(library):
    """The script of the documentation that reads files with this library."""
    text = DOCS.read_text(encoding="utf-8").partition("### Images in other files")[2]
    blocks = [block.partition("```")[0] for block in text.split("```python\n")[1:]]
    (script,) = [block for block in blocks if f"import {library}" in block]
    return script


@pytest.fixture
def truth(tmp_path, monkeypatch):
    """Images of the classes 0 and 1 in `truth`, beside an empty folder `set`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    return make_images(tmp_path / "truth", {"0": 3, "1": 4}, size=(8, 8))


def pixels_in(folder):
    """(class, pixels) of each image."""
    images = [(p.parent.name, Image.open(p)) for p in folder.rglob("*.*g")]
    return sorted((name, np.asarray(image).tobytes()) for name, image in images)


def test_the_script_for_parquet(truth, tmp_path):
    rows = [
        {"image": {"bytes": p.read_bytes(), "path": p.name}, "label": int(p.parent.name)}
        for p in sorted(truth.rglob("*.png"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), "set/train-00000-of-00001.parquet")
    exec(script_for("pyarrow"), {})
    index = build_index(tmp_path / "photos", validation=0, test=0, seed=0)
    assert index.counts == {"train": {"0": 3, "1": 4}}
    assert pixels_in(tmp_path / "photos") == pixels_in(truth)


def test_the_script_for_hdf5(truth, tmp_path):
    paths = sorted(truth.rglob("*.png"))
    with h5py.File("set.h5", "w") as file:
        file["images"] = np.stack([np.asarray(Image.open(path)) for path in paths])
        file["labels"] = [int(path.parent.name) for path in paths]
    exec(script_for("h5py"), {})
    folder = locate_source("set.npz", data_dir=tmp_path / "data")
    assert pixels_in(folder) == pixels_in(truth)


@pytest.mark.slow
def test_the_script_for_tfrecord(truth, tmp_path):
    script = WRITE_RECORDS + script_for("tensorflow")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert pixels_in(tmp_path / "photos") == pixels_in(truth)
