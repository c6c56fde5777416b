"""The command: what it refuses, what it writes, and what it leaves as it was."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvtrain.commands.visualize as command
from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.commands.predict import predict
from cvtrain.commands.visualize import cam as explain_images
from cvtrain.commands.visualize import visualize
from cvtrain.commands.visualize.request import VisualizeRequest
from cvtrain.errors import ConfigError, DataError, ResourceError, RunError, Stopped
from cvtrain.images.decode import Decoder
from cvtrain.runs.run import Run
from cvtrain.system.console import Console
from cvtrain.system.files import commit_json
from cvtrain.system.outputs import commit_mark

QUIET = Console(quiet=True)


def look_at(source, *paths, output=None, pixel_range=None, console=QUIET, **look):
    options = {"pixel_range": pixel_range, "output": output, "console": console}
    return visualize(source, list(map(str, paths)), VisualizeRequest(**look), **options)


def record_of(folder):
    return json.loads((folder / "visualize.json").read_text(encoding="utf-8"))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def mistaken(finished, tmp_path_factory):
    """The run, as if every third of its test images had another class than it found."""
    run = Run.open(shutil.copytree(finished.path, tmp_path_factory.mktemp("runs") / "mistaken"))
    names = run.content["class_names"]
    with (run.path / "predictions-test.csv").open(newline="") as file:
        columns, *rows = csv.reader(file)
    by_class = {name: [] for name in names}
    for i, row in enumerate(rows):
        found = names.index(row[2])
        by_class[names[found if i % 3 else (found + 1) % len(names)]].append(row)
    split = run.read_json("split.json")
    split["test"] = {name: [row[0] for row in of_class] for name, of_class in by_class.items()}
    commit_json(run.path / "split.json", split)
    with (run.path / "predictions-test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *(row for of in by_class.values() for row in of)])
    return run


@pytest.fixture(scope="module")
def before(mistaken):
    """Every file of the run, before it was looked at."""
    return contents(mistaken.path)


@pytest.fixture(scope="module")
def looked(mistaken, before):  # noqa: ARG001 - is to be read first
    """The run, looked at with nothing said, and what was recorded."""
    folder = look_at(mistaken)
    return folder, record_of(folder)


def test_nothing_else_in_the_run_is_changed(looked, mistaken, before):
    folder, _ = looked
    assert folder == mistaken.path / "visualize" / "gradcam"
    after = contents(mistaken.path)
    assert {
        path: content for path, content in after.items() if folder not in path.parents
    } == before


def test_every_file_is_named_and_there_are_no_others(looked):
    folder, record = looked
    named = {"index.html", "sheet.png", "visualize.json"}
    for image in record["images"]:
        for asked in image["classes"]:
            named |= {asked["map"], asked["overlay"]}
    assert {path.relative_to(folder).as_posix() for path in contents(folder)} == named


def test_the_record_says_what_was_looked_at_and_how(looked, mistaken):
    _, record = looked
    assert record["format"] == 1
    assert record["model"] == str(mistaken.path)
    assert record["weights_sha256"] == mistaken.content["weights_sha256"]
    assert (record["method"], record["layer"], record["seed"]) == ("gradcam", "conv2_relu", 0)
    assert record["ends_in"] == "softmax"
    assert record["versions"] == mistaken.content["versions"]
    assert record["unreadable"] == {}


def test_half_of_the_sample_are_mistakes_with_the_true_class_beside_the_predicted(looked, mistaken):
    _, record = looked
    true = {}
    for name, files in mistaken.read_json("split.json")["test"].items():
        true |= dict.fromkeys(files, name)
    assert {image["file"]: image["true"] for image in record["images"]} == true
    wrong = [image["true"] != image["predicted"] for image in record["images"]]
    assert wrong == [True] * 5 + [False] * 10
    for image, is_wrong in zip(record["images"], wrong, strict=True):
        asked = [(each["class"], each["role"]) for each in image["classes"]]
        if is_wrong:
            assert asked == [(image["predicted"], "predicted"), (image["true"], "true")]
        else:
            assert asked == [(image["true"], "predicted and true")]


def test_the_probabilities_are_those_of_predict(looked, mistaken, tmp_path):
    _, record = looked
    root = Path(mistaken.content["data"]["root"])
    files = [str(root / image["file"]) for image in record["images"]]
    options = {"top": 1, "output": tmp_path / "out.json", "batch_size": 4, "console": QUIET}
    predict(mistaken, files, **options)
    expected = {
        entry["file"]: entry["probabilities"]
        for entry in json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    }
    for image, file in zip(record["images"], files, strict=True):
        assert image["predicted"] == max(expected[file], key=expected[file].get)
        for asked in image["classes"]:
            assert asked["probability"] == pytest.approx(expected[file][asked["class"]], abs=1e-5)


def plain_gradcam(model, layer, pixels, c):
    """By hand: Selvaraju et al. (2017), equations 1 and 2, without the relu; and the logit."""
    import tensorflow as tf

    first = [each.name for each in model.layers].index(layer) + 1
    a = keras.Model(model.input, model.get_layer(layer).output)(pixels, training=False)
    with tf.GradientTape() as tape:
        tape.watch(a)
        x = a
        for each in model.layers[first:-1]:
            x = each(x, training=False)
        logit = x[:, c]
    weights = tape.gradient(logit, a)[0].numpy().mean(axis=(0, 1))
    return sum(w * a[0, ..., k].numpy() for k, w in enumerate(weights)), float(logit[0])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="by hand in TensorFlow")
def test_the_raw_maps_are_grad_cams(looked, mistaken):
    folder, record = looked
    model = keras.saving.load_model(mistaken.model_path)
    assert model.layers[-1].name == "probabilities"
    root = Path(mistaken.content["data"]["root"])
    for image in record["images"][3:7]:
        pixels = Decoder((16, 20))((root / image["file"]).read_bytes()).pixels
        for asked in image["classes"]:
            c = mistaken.content["class_names"].index(asked["class"])
            expected, score = plain_gradcam(model, "conv2_relu", np.float32(pixels[None]), c)
            raw = np.load(folder / asked["map"])
            assert raw.dtype == np.float32
            np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-6)
            assert asked["score"] == pytest.approx(score, abs=1e-4)


def test_overlays_have_the_size_of_the_photograph_and_its_pixels_where_nothing_speaks(
    looked, mistaken
):
    folder, record = looked
    root = Path(mistaken.content["data"]["root"])
    for image in record["images"]:
        with Image.open(root / image["file"]) as photograph:
            pixels = np.asarray(photograph.convert("RGB"))
        assert image["size"] == [20, 24]
        for asked in image["classes"]:
            raw = np.load(folder / asked["map"])
            with Image.open(folder / asked["overlay"]) as overlaid:
                assert overlaid.mode == "RGB"
                shown = np.asarray(overlaid)
            assert shown.shape == pixels.shape
            assert np.array_equal(shown, pixels) == (raw.max() <= 0)
            assert (asked["note"] == "all negative") == (raw.max() <= 0)


def test_the_page_shows_every_image(looked):
    folder, record = looked
    page = (folder / "index.html").read_text(encoding="utf-8")
    for image in record["images"]:
        assert image["file"] in page
    assert "conv2_relu" in page
    assert "http:" not in page
    assert "https:" not in page


def test_the_same_command_writes_the_same_and_replaces_everything(looked, mistaken):
    folder, _ = looked
    expected = contents(folder)
    (folder / "maps" / "9999-of-an-earlier-look.png").write_bytes(b"x")
    record = record_of(folder)
    record["contents"].append("maps/9999-of-an-earlier-look.png")
    commit_json(folder / "visualize.json", record)
    assert look_at(mistaken) == folder
    assert contents(folder) == expected


def test_a_foreign_folder_is_refused_and_untouched(looked, mistaken, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    looked_before = shutil.copytree(looked[0], tmp_path / "looked before")
    (looked_before / "maps" / "notes.txt").write_text("mine")
    for output in (tmp_path, mistaken.path, looked_before):
        files = contents(output)
        with pytest.raises(ResourceError, match=r"not known to have written: .*"):
            look_at(mistaken, output=output)
        assert contents(output) == files


class Impatient(Console):
    """Asks to stop as soon as something was done."""

    def task(self, text):
        from contextlib import nullcontext

        def show(done, total):
            if 0 < done < total:
                os.kill(os.getpid(), signal.SIGTERM)

        assert text
        return nullcontext(show)


@pytest.mark.parametrize("look", [{}, {"what": "activations"}, {"what": "filters"}])
def test_a_stop_leaves_the_folder_as_it_was(mistaken, image_folder, tmp_path, look):
    commit_mark(tmp_path, "visualize.json", {})
    before = contents(tmp_path)
    images = [] if look.get("what") == "filters" else [image_folder / "train"]
    with pytest.raises(Stopped, match="stopped while"):
        look_at(mistaken, *images, output=tmp_path, console=Impatient(quiet=True), **look)
    assert contents(tmp_path) == before
    assert not list(tmp_path.parent.glob(".cvtrain-tmp-*"))


@pytest.mark.parametrize(
    ("look", "at"),
    [
        ({"method": "rise"}, 2),
        ({"method": "occlusion"}, 2),
        ({"method": "scorecam"}, 2),
        ({"method": "ablation"}, 2),
        ({"method": "smoothgrad"}, 2),
        ({"method": "integrated-gradients"}, 2),
        ({"evaluate": True}, 9),
        ({"sanity": True}, 20),
    ],
)
def test_a_stop_is_heard_before_the_next_pass(mistaken, tmp_path, monkeypatch, look, at):
    passes = []

    def stopping(compile_function):
        def compiled(*args):
            run = compile_function(*args)

            def one_pass(*batch):
                passes.append(look)
                if len(passes) == at:
                    os.kill(os.getpid(), signal.SIGTERM)
                return run(*batch)

            return one_pass

        return compiled

    monkeypatch.setattr(backend, "inference", stopping(backend.inference))
    monkeypatch.setattr(backend, "value_and_gradient", stopping(backend.value_and_gradient))
    # So that one image takes several passes, whatever the method.
    monkeypatch.setattr(explain_images, "BATCH_SIZE", 4)
    with pytest.raises(Stopped, match="stopped while"):
        look_at(mistaken, output=tmp_path / "look", **look)
    assert len(passes) == at
    assert not list(tmp_path.iterdir())


@pytest.fixture
def seen(monkeypatch):
    """How many images each pass through the first layer has, from the opening of the model on."""
    import tensorflow as tf

    counts = []
    rescale = keras.layers.Rescaling.call

    def counted(layer, pixels):
        def count(batch):
            counts.append(len(batch))
            return batch

        through = tf.numpy_function(count, [pixels], pixels.dtype)
        through.set_shape(pixels.shape)
        return rescale(layer, through)

    def look(*args, **kwargs):
        counts.clear()
        return explain_images.explain_images(*args, **kwargs)

    monkeypatch.setattr(keras.layers.Rescaling, "call", counted)
    monkeypatch.setitem(command._LOOKS, "cam", look)
    return counts


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counts in TensorFlow's graph")
@pytest.mark.parametrize(
    ("named", "look"),
    [
        (True, {}),
        (False, {}),
        (False, {"classes": "top:2"}),
        (True, {"method": "layercam", "classes": "all"}),
    ],
)
def test_every_image_goes_through_the_network_once(
    mistaken, image_folder, tmp_path, seen, named, look
):
    photos = [image_folder / "test"] if named else []
    record = record_of(look_at(mistaken, *photos, output=tmp_path / "look", **look))
    assert len(record["images"]) == 15
    assert seen == [15]


def test_unreadable_images_are_told_and_recorded_and_the_rest_is_done(
    mistaken, image_folder, tmp_path, capsys
):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no image")
    names = ["<img src=x onerror=alert(1)>.png", "a\nb.png", "caf\udce9.png", "a..png", "é.png"]
    for name in names:
        shutil.copy(image_folder / "test" / "red" / "000.png", tmp_path / "photos" / name)
    output = tmp_path / "look"
    with pytest.raises(DataError, match="could not be read: 2") as caught:
        look_at(mistaken, tmp_path / "photos", tmp_path / "none.png", output=output)
    assert caught.value.exit_code == 3
    record = record_of(output)
    assert set(record["unreadable"]) == {f"{tmp_path}/photos/bad.jpg", f"{tmp_path}/none.png"}
    assert len(record["images"]) == len(names)
    assert {image["true"] for image in record["images"]} == {None}
    shown = capsys.readouterr().err
    assert "bad.jpg" in shown
    assert "none.png" in shown
    page = (output / "index.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    for path in contents(output):
        assert path.name.isascii()
        assert path.name.isprintable()
        assert path.parent in (output, output / "maps")


def test_class_names_may_be_anything(mistaken, image_folder, tmp_path):
    run = Run.open(shutil.copytree(mistaken.path, tmp_path / "run"))
    names = ["../a b", "../a/b", "<b>\nbold</b>"]
    run.update(class_names=names)
    folder = look_at(run, image_folder / "test" / "red" / "000.png", classes="all")
    (image,) = record_of(folder)["images"]
    assert [each["class"] for each in image["classes"]] == names
    assert sum(each["probability"] for each in image["classes"]) == pytest.approx(1, abs=1e-5)
    assert len({each["map"] for each in image["classes"]}) == 3
    assert all((folder / each["overlay"]).parent == folder / "maps" for each in image["classes"])
    assert "<b>" not in (folder / "index.html").read_text(encoding="utf-8")
    folder = look_at(run, image_folder / "test" / "red" / "000.png", classes="../a/b")
    (image,) = record_of(folder)["images"]
    assert [each["class"] for each in image["classes"]] == ["../a/b"]


def test_a_page_and_a_sheet_stay_small_whatever_the_number(mistaken, monkeypatch, capsys):
    monkeypatch.setattr(explain_images, "_ON_THE_PAGE", 6)
    monkeypatch.setattr(explain_images, "BATCH_SIZE", 4)
    folder = look_at(mistaken, method="hirescam", classes="top:2")
    record = record_of(folder)
    page = (folder / "index.html").read_text(encoding="utf-8")
    shown = [image["file"] in page for image in record["images"]]
    assert shown == [True] * 2 + [False] * 13
    assert "13" in page
    assert len(list((folder / "maps").iterdir())) == 2 * 2 * 15
    assert "15 images, 5 of them misclassified" in capsys.readouterr().out


def test_measures_and_the_sanity_check_are_written_told_and_shown(mistaken, tmp_path, capsys):
    folder = look_at(mistaken, output=tmp_path, evaluate=True, sanity=True)
    record = record_of(folder)
    measures = record["faithfulness"]
    assert {"deletion", "insertion", "average drop", "border mass"} <= set(measures)
    for measure in measures.values():
        assert len(measure["values"]) == 15
        assert measure["mean"] == pytest.approx(np.mean(measure["values"]), abs=1e-6)
        assert measure["better"] in ("higher", "lower", "")
    method, control = record["sanity"].values()
    assert method["stages"] == control["stages"]
    assert control["verdict"] == "fails"
    assert control["rank_correlations"] == pytest.approx([1] * len(control["stages"]))
    told = capsys.readouterr().out
    assert "deletion" in told
    assert f"sanity check: gradcam {method['verdict']}" in told
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "deletion" in page
    for name in ("faithfulness.png", "sanity.png"):
        with Image.open(folder / name) as figure:
            assert np.asarray(figure.convert("L")).std() > 1


MODEL = Path("model.keras")


@pytest.mark.parametrize(
    ("source", "paths", "look", "words"),
    [
        ("run", (), {"what": "filters", "classes": "1"}, "--class has no effect on --filters"),
        ("run", (), {"what": "activations", "method": "rise"}, "--method has no effect"),
        ("run", (), {"what": "depth", "evaluate": True}, "--evaluate has no effect"),
        ("run", (), {"what": "depth", "sanity": True}, "--sanity has no effect"),
        ("run", (), {"what": "depth", "layer": "a"}, "--layer has no effect"),
        ("run", (), {"style": "book"}, "--style has no effect on --cam"),
        ("run", ("a.jpg",), {"what": "filters"}, "--filters takes no images; received a.jpg"),
        ("run", ("a.jpg",), {"what": "depth"}, "--depth takes no images; received a.jpg"),
        ("run", (), {"pixel_range": "0..1"}, "--pixel-range: the model of a run"),
        (MODEL, (), {}, "model.keras: a model file needs images"),
        (MODEL, (), {"what": "activations"}, "a model file needs images"),
        (MODEL, (), {"what": "depth"}, "--depth compares test images"),
    ],
)
def test_contradictions_are_told_before_anything_is_opened(tmp_path, source, paths, look, words):
    source = Run.create(tmp_path / "run", "fit") if source == "run" else source
    with pytest.raises(ConfigError, match=words) as caught:
        look_at(source, *paths, **look)
    assert caught.value.advice


@pytest.mark.parametrize(
    ("look", "words", "advice"),
    [
        ({"method": "grad-cam"}, "no method grad-cam", "gradcam"),
        ({"layer": "conv2_rleu"}, "no layer conv2_rleu", "conv2_relu"),
        ({"layer": "conv2_relu", "method": "saliency"}, "works on the pixels", "gradcam"),
        ({"layer": "dense1"}, "dense1 has the shape", "conv2_relu"),
        ({"classes": "grene"}, "no such class", "green"),
    ],
)
def test_names_that_the_model_lacks_get_advice(mistaken, tmp_path, look, words, advice):
    with pytest.raises(ConfigError, match=words) as caught:
        look_at(mistaken, output=tmp_path / "out", **look)
    assert advice in caught.value.advice
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_model_is_told(tmp_path):
    run = Run.create(tmp_path / "run", "fit")
    with pytest.raises(RunError):
        look_at(run)
