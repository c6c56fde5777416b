"""Arrays under any name; what cannot be read is converted by the line that is advised."""

import csv
import shlex

import numpy as np
import pytest
from PIL import Image

from cvtrain.data.array_files import how_to_store_table, load_npz
from cvtrain.data.manifest import read_manifest
from cvtrain.data.sources import locate_source
from cvtrain.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 5, 3), np.uint8)
IMAGES[0, 0, 0], IMAGES[0, 0, 1] = 0, 255
GREY = IMAGES[..., 0]
LABELS = np.arange(12) % 3


@pytest.fixture
def save(tmp_path):
    def save(*arrays, **named):
        np.savez_compressed(tmp_path / "set.npz", *arrays, **named)
        return tmp_path / "set.npz"

    return save


@pytest.mark.parametrize(
    ("x", "y"),
    [
        *(("x", "y"), ("X", "y"), ("images", "labels"), ("data", "target"), ("image", "label")),
        *(("x_train", "y_train"), ("train_images", "train_labels"), ("trainX", "trainY")),
        *(("X_train", "Y_train"), ("training-data", "training-targets"), ("imgs_train", "y_train")),
    ],
)
def test_names_of_images_and_labels(save, x, y):
    read = load_npz(save(**{x: IMAGES, y: LABELS}))
    assert set(read) == {"x_train", "y_train"}
    np.testing.assert_array_equal(read["x_train"], IMAGES)
    np.testing.assert_array_equal(read["y_train"], LABELS)


def test_two_arrays_without_names(save):
    read = load_npz(save(GREY, LABELS))
    np.testing.assert_array_equal(read["x_train"], GREY)
    np.testing.assert_array_equal(read["y_train"], LABELS)


def test_medmnist_becomes_folders_with_its_splits(save, tmp_path):
    path = save(
        train_images=IMAGES,
        train_labels=LABELS[:, None],
        val_images=IMAGES[:6],
        val_labels=LABELS[:6, None],
        test_images=IMAGES[6:],
        test_labels=LABELS[6:, None],
    )
    folder = locate_source(path, data_dir=tmp_path / "data")
    for split, images in (("train", IMAGES), ("validation", IMAGES[:6]), ("test", IMAGES[6:])):
        assert len(list((folder / split).rglob("*.png"))) == len(images)
    with Image.open(folder / "validation" / "2" / "5.png") as image:
        np.testing.assert_array_equal(np.asarray(image), IMAGES[5])


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["cat", "äpfel", "T-shirt"])[LABELS],
        np.array([each.encode() for each in ("cat", "äpfel", "T-shirt")])[LABELS],
    ],
)
def test_texts_are_the_names_of_classes(save, tmp_path, labels):
    folder = locate_source(save(x=GREY, y=labels), data_dir=tmp_path / "data")
    assert {path.name for path in (folder / "train").iterdir()} == {"cat", "äpfel", "T-shirt"}
    with Image.open(folder / "train" / "äpfel" / "04.png") as image:
        np.testing.assert_array_equal(np.asarray(image), GREY[4])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_rows_with_one_one_are_labels(save, dtype):
    read = load_npz(save(x=GREY, y=np.eye(3, dtype=dtype)[LABELS]))
    np.testing.assert_array_equal(read["y_train"], LABELS)


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/b", "", ".hidden", "a\x1b[31m", "x" * 61, " a", "caf\u0085e"]
)
def test_a_text_that_could_lead_elsewhere_is_refused(save, tmp_path, name):
    path = save(x=GREY, y=np.array([name, "dog", "emu"])[LABELS])
    with pytest.raises(DataError, match=r"y has .* which cannot be the name of a folder") as caught:
        locate_source(path, data_dir=tmp_path / "data")
    assert caught.value.message.isprintable()
    assert [each.name for each in tmp_path.iterdir()] == ["set.npz"]


CONVERTED = {
    "fractions": (IMAGES / np.float32(255), IMAGES),
    "floats": (IMAGES.astype(np.float64), IMAGES),
    "-1 to 1": (IMAGES / 127.5 - 1, IMAGES),
    "integers": (IMAGES.astype(np.int64), IMAGES),
    "16 bits": (IMAGES.astype(np.uint16) * 257, IMAGES),
    "12 bits": (np.linspace(0, 4095, 300).round().astype(np.uint16).reshape(12, 5, 5), None),
    "truths": (GREY > 99, np.where(GREY > 99, 255, 0)),
    "channels first": (IMAGES.transpose(0, 3, 1, 2), IMAGES),
    "channels first, fractions": (IMAGES.transpose(0, 3, 1, 2) / 255, IMAGES),
    "as MATLAB has them": (IMAGES.transpose(1, 2, 3, 0), IMAGES),
    "with transparency": (np.concatenate([IMAGES, IMAGES[..., :1]], axis=3), IMAGES),
    "rows of pixels": (GREY.reshape(12, 25), GREY),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_pixels_of_another_kind_are_refused_with_a_line_that_converts_them(save, kind):
    given, expected = CONVERTED[kind]
    path = save(images=given, labels=LABELS.astype(float))
    with pytest.raises(DataError, match="images must be uint8 of shape") as caught:
        load_npz(path)
    assert f"received {given.dtype} of shape {given.shape}" in caught.value.message
    run_advice(caught.value.advice, "To convert it: ")
    read = load_npz(path.with_name("set-new.npz"))
    np.testing.assert_array_equal(read["y_train"], LABELS)
    if expected is None:
        expected = np.rint(given * (255 / 4095))
    np.testing.assert_array_equal(read["x_train"], expected)


def run_advice(advice, start):
    assert advice.startswith(start)
    python, option, code = shlex.split(advice.removeprefix(start))
    assert (python, option) == ("python", "-c")
    exec(code, {})


@pytest.mark.parametrize("keys", [("a", "b"), ("it's", 'the "labels"'), ("картинки", "метки")])
def test_unknown_names_are_listed_with_a_line_that_renames_them(save, keys):
    x, y = keys
    path = save(**{x: GREY, y: LABELS})
    with pytest.raises(DataError, match="x_train is not a file in the archive") as caught:
        load_npz(path)
    assert f"it holds {x} uint8 (12, 5, 5), {y} int64 (12,)" in caught.value.message
    start = "If these are the images and labels for training, name them so: "
    run_advice(caught.value.advice, start)
    np.testing.assert_array_equal(load_npz(path.with_name("set-new.npz"))["x_train"], GREY)


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"x": GREY, "images": GREY, "y": LABELS}, "both x and images may be x_train"),
        ({"x": GREY, "y": LABELS, "masks": GREY}, "masks may be images, too"),
        ({"images": GREY}, "y_train is not a file in the archive"),
        ({"x_test": GREY, "y_test": LABELS}, "x_train is not a file in the archive"),
        ({"x": GREY, "y": np.ones((12, 3))}, "y has several ones in a row: several labels"),
        ({"x": GREY, "y": np.full((12, 3), 0.3)}, "y must be 12 integers or texts"),
        ({"x": GREY, "y": np.zeros((12, 3))}, "y must be 12 integers or texts"),
        ({"x": GREY, "y": LABELS[:11]}, "y must be 12 integers or texts"),
        ({"x": GREY - 128.0, "y": LABELS}, r"float64 of shape \(12, 5, 5\), -128 to 127"),
        ({"x": np.zeros((12, 5, 5, 5), np.uint8), "y": LABELS}, r"of shape \(12, 5, 5, 5\)"),
        ({"x": np.array(["a"] * 12), "y": LABELS}, "x must be uint8"),
        ({"x": np.full((12, 5, 5), np.nan), "y": LABELS}, "x must be uint8"),
        ({}, "it holds nothing"),
    ],
)
def test_what_may_be_several_things_or_is_none_is_refused(save, arrays, what):
    with pytest.raises(DataError, match=what) as caught:
        load_npz(save(**arrays))
    assert caught.value.advice


def test_other_arrays_beside_them_are_left_out(save):
    read = load_npz(save(x=GREY, y=LABELS, ids=np.arange(12), names=np.array(["a", "b", "c"])))
    assert set(read) == {"x_train", "y_train"}


def test_objects_are_refused_with_a_way_to_store_texts(save):
    with pytest.raises(DataError, match="Python objects, which may run anything") as caught:
        load_npz(save(x=GREY, y=np.array(["cat", "dog", "emu"], object)[LABELS]))
    assert ".astype(str)" in caught.value.advice


TABLES = {
    "as Kaggle's MNIST": (("label", *(f"pixel{i}" for i in range(64))), lambda y, x: [y, *x]),
    "labels behind": ((*(f"{i}x{i}" for i in range(64)), "class"), lambda y, x: [*x, y]),
    "no header": (None, lambda y, x: [y, *x]),
    "as FER2013": (
        ("emotion", "pixels", "Usage"),
        lambda y, x: [y, " ".join(map(str, x)), "Training"],
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_pixels_are_stored_as_is_said(tmp_path, kind):
    header, row_of = TABLES[kind]
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8))
    rows = [row_of(i % 3, image.ravel().tolist()) for i, image in enumerate(images)]
    path = tmp_path / "it's train.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*([header] if header else []), *rows])
    with pytest.raises(DataError, match="the columns are pixels, not files") as caught:
        read_manifest(path)
    run_advice(caught.value.advice, "To store them as images, and name the .npz file: ")
    read = load_npz(path.with_suffix(".npz"))
    np.testing.assert_array_equal(read["x_train"], images)
    assert read["y_train"].tolist() == ["0", "1", "2"] * 2


def test_other_tables_are_none_of_pixels(tmp_path):
    path = tmp_path / "t.csv"
    assert how_to_store_table(path, ["path", "label"], [["1", "2"]]) == ""
    assert how_to_store_table(path, [str(i) for i in range(64)], []) == ""  # 63 are no square
    assert how_to_store_table(path, ["a"] * 65, [["x"] * 65]) == ""
    assert how_to_store_table(path, [], []) == ""
