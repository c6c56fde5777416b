"""`visualize MODEL.keras`: any Keras model of images, whoever trained it; and what is refused."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import SHAPE, VARIANTS, early, flat, layers, seeded, top

from cvtrain.backend import keras
from cvtrain.commands.visualize import visualize
from cvtrain.commands.visualize.request import VisualizeRequest
from cvtrain.errors import RunError
from cvtrain.explain.explain import METHODS
from cvtrain.images.decode import Decoder
from cvtrain.system.console import Console

HEIGHT, WIDTH = SHAPE[:2]


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photograph, larger than what the models take and of another shape."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def look_at(tmp_path, monkeypatch):
    """look_at(model, *paths) -> what was recorded, and the folder; the file stays as it was."""
    monkeypatch.chdir(tmp_path)

    def run(model, *paths, pixel_range=None, output=None, **look):
        path = Path("my model.keras")
        model.save(path)
        content = path.read_bytes()
        options = {"pixel_range": pixel_range, "output": output, "console": Console()}
        folder = visualize(path, [str(each) for each in paths], VisualizeRequest(**look), **options)
        assert path.read_bytes() == content
        return json.loads((folder / "visualize.json").read_text(encoding="utf-8")), folder

    return run


def pixels_of(photo, size=(HEIGHT, WIDTH)):
    return np.float32(Decoder(size)(photo.read_bytes()).pixels[None])


def answer(model, pixels):
    return keras.ops.convert_to_numpy(model(pixels, training=False))[0].astype(np.float64)


def probabilities_in(record):
    (image,) = record["images"]
    return [each["probability"] for each in image["classes"]]


def grey():
    inputs = keras.Input((HEIGHT, WIDTH, 1))
    x = early()(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, top()(layers.GlobalMaxPooling2D()(x)))


def sigmoid():
    inputs = keras.Input(SHAPE)
    x = early()(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, top(1, "sigmoid")(layers.GlobalMaxPooling2D()(x)))


def any_size():
    inputs = keras.Input((None, None, 3))
    x = early()(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, top()(layers.GlobalMaxPooling2D()(x)))


def unscaled():
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, top()(layers.GlobalMaxPooling2D()(early()(inputs))))


@pytest.mark.parametrize("name", ["nested functional", "augmenting", "mixed_bfloat16"])
def test_a_model_may_be_nested_augment_or_compute_in_half_floats(look_at, photo, name, capsys):
    model = VARIANTS[name]()
    record, folder = look_at(model, photo, classes="all")
    # Without the augmentation, in float32.
    np.testing.assert_allclose(
        probabilities_in(record), answer(flat(), pixels_of(photo)), atol=1e-5
    )
    assert [each["class"] for each in record["images"][0]["classes"]] == [
        "class 0",
        "class 1",
        "class 2",
    ]
    assert folder == Path("visualize") / "my model" / "gradcam"
    for each in record["images"][0]["classes"]:
        with Image.open(folder / each["overlay"]) as overlaid:
            assert overlaid.size == (40, 30)
    assert "--pixel-range" not in capsys.readouterr().err


def test_grey_images_are_made_of_colours(look_at, photo):
    model = grey()
    record, _ = look_at(model, photo, classes="all")
    weighted = pixels_of(photo) @ np.array([[0.299], [0.587], [0.114]])
    np.testing.assert_allclose(probabilities_in(record), answer(model, weighted), atol=1e-5)


def test_a_single_unit_is_two_classes(look_at, photo):
    model = sigmoid()
    record, folder = look_at(model, photo, classes="all")
    (p,) = answer(model, pixels_of(photo))
    np.testing.assert_allclose(probabilities_in(record), [1 - p, p], atol=1e-5)
    against, speaking = (np.load(folder / each["map"]) for each in record["images"][0]["classes"])
    np.testing.assert_array_equal(against, -speaking)


def write_with_metadata(path, model, about):
    """A model file with JSON of its own in its metadata, made with Python's zipfile alone."""
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(members["metadata.json"]) | {"cvtrain": about}
    members["metadata.json"] = json.dumps(described).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


ABOUT = {
    "class_names": ["zebra", "ant", "cow"],
    "image_size": [HEIGHT, WIDTH],
    "decoder": {"resize": "crop", "background": [0, 0, 0], "range": "auto"},
}


def test_class_names_and_decoder_are_those_in_the_file_itself(tmp_path, photo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = flat()
    write_with_metadata(Path("model.keras"), model, ABOUT)
    folder = visualize(
        Path("model.keras"), [str(photo)], VisualizeRequest(classes="all"), console=Console()
    )
    record = json.loads((folder / "visualize.json").read_text(encoding="utf-8"))
    cropped = Decoder((HEIGHT, WIDTH), resize="crop", background=(0, 0, 0))(photo.read_bytes())
    expected = answer(model, np.float32(cropped.pixels[None]))
    found = [(each["class"], each["probability"]) for each in record["images"][0]["classes"]]
    assert [name for name, _ in found] == ["zebra", "ant", "cow"]
    np.testing.assert_allclose([value for _, value in found], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ["a", "b"]}, "returns 3 classes"),
        ({"image_size": [9, 9]}, "metadata.json says 3 and (9, 9)"),
        ({"class_names": 7}, "class_names"),
        ({"decoder": {"resize": "melt"}}, "decoder.resize"),
    ],
)
def test_metadata_that_does_not_fit_the_model_is_refused(
    tmp_path, photo, monkeypatch, change, words
):
    monkeypatch.chdir(tmp_path)
    write_with_metadata(Path("model.keras"), flat(), ABOUT | change)
    with pytest.raises(RunError) as error:
        visualize(Path("model.keras"), [str(photo)], VisualizeRequest(), console=Console())
    assert words in error.value.message


def test_a_model_of_any_size_is_given_one_and_says_so(look_at, photo, capsys):
    model = any_size()
    record, _ = look_at(model, photo, classes="all")
    expected = answer(model, pixels_of(photo, (224, 224)))
    np.testing.assert_allclose(probabilities_in(record), expected, atol=1e-5)
    assert "gets 224 x 224" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pixel_range", "scaled"),
    [
        (None, lambda pixels: pixels),
        ("0..255", lambda pixels: pixels),
        ("0..1", lambda pixels: pixels / 255),
        ("-1..1", lambda pixels: pixels / 127.5 - 1),
    ],
)
def test_pixels_are_scaled_as_a_person_says(look_at, photo, pixel_range, scaled, capsys):
    model = unscaled()
    record, _ = look_at(model, photo, classes="all", pixel_range=pixel_range)
    expected = answer(model, scaled(pixels_of(photo)))
    np.testing.assert_allclose(probabilities_in(record), expected, atol=1e-5)
    # Nobody said it, and no layer scales: a person has to know.
    assert ("--pixel-range" in capsys.readouterr().err) == (pixel_range is None)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_a_tiny_model(look_at, photo, name, monkeypatch):
    from cvtrain.explain import attributions

    monkeypatch.setattr(attributions, "NUM_MASKS", 64)
    record, folder = look_at(flat(), photo, method=name, classes="top:2")
    assert record["method"] == name
    assert record["layer"] == ("late" if METHODS[name].needs_layer else None)
    asked = record["images"][0]["classes"]
    assert len(asked) == 2
    for each in asked:
        raw = np.load(folder / each["map"])
        assert raw.shape == ((8, 6) if METHODS[name].needs_layer else (HEIGHT, WIDTH))
        assert np.isfinite(raw).all()
        assert each["note"] or raw.any()


def test_a_model_that_is_broken_inside_writes_no_nan(look_at, photo):
    model = flat()
    kernel, bias = model.get_layer("early").get_weights()
    model.get_layer("early").set_weights([np.full_like(kernel, np.nan), bias])
    _, folder = look_at(model, photo, classes="all", evaluate=True)
    assert "NaN" not in (folder / "visualize.json").read_text()


def custom(path):
    class Mine(layers.Layer):
        def call(self, x):
            return x

    keras.Sequential([keras.Input(SHAPE), Mine(), layers.Flatten(), top()]).save(path)


def hostile(path):
    marker = path.parent / "ran"
    layer = layers.Lambda(lambda x, name=str(marker): (Path(name).touch(), x)[1])
    keras.Sequential([keras.Input(SHAPE), layer, layers.Flatten(), top()]).save(path)
    marker.unlink()  # The layer ran when it was built.


def no_archive(path):
    path.write_bytes(b"no model")


def other_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")


def cut_off(path):
    flat().save(path)
    path.write_bytes(path.read_bytes()[:2000])


def folder(path):
    path.mkdir()


def missing(path):
    pass


def four_channels(path):
    inputs = keras.Input((HEIGHT, WIDTH, 4))
    keras.Model(inputs, top()(layers.Flatten()(inputs))).save(path)


def vectors(path):
    inputs = keras.Input((20,))
    keras.Model(inputs, top()(inputs)).save(path)


def segmentation(path):
    inputs = keras.Input(SHAPE)
    keras.Model(inputs, layers.Conv2D(2, 1, **seeded(0))(inputs)).save(path)


@pytest.mark.filterwarnings("ignore:.*Lambda")
@pytest.mark.parametrize(
    "write",
    [
        custom,
        hostile,
        no_archive,
        other_archive,
        cut_off,
        folder,
        missing,
        four_channels,
        vectors,
        segmentation,
    ],
)
def test_what_is_no_model_of_images_is_refused_in_a_line(photo, tmp_path, write):
    path = tmp_path / "x.keras"
    write(path)
    with pytest.raises(RunError, match=r"x\.keras") as caught:
        visualize(
            path,
            [str(photo)],
            VisualizeRequest(),
            output=tmp_path / "out",
            console=Console(quiet=True),
        )
    assert "\n" not in caught.value.message
    assert "--resume" not in caught.value.advice
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ran").exists()


def test_a_relative_output_and_the_file_of_a_run(finished, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(finished.model_path, "a.keras")
    folder = visualize(
        Path("a.keras"),
        [str(photo)],
        VisualizeRequest(),
        output=Path("b/c"),
        console=Console(quiet=True),
    )
    assert (folder / "index.html").exists()
    record = json.loads((folder / "visualize.json").read_text())
    assert record["weights_sha256"] == finished.content["weights_sha256"]
