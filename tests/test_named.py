"""What RUN, MODEL and images name: no mistyped name lets another model answer."""

import shlex
import shutil
import zipfile
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_models import flat

from cvtrain.cli import cli
from cvtrain.cli.named import model_at
from cvtrain.cli.options import Project
from cvtrain.errors import DataError, RunError
from cvtrain.runs.run import Run


class _Reached(Exception):
    """A command has come as far as to its work."""


def _reach(what):
    def work(run, paths=(), *_args, **_kwargs):
        raise _Reached(str(getattr(run, "path", run)), *paths)

    return f"cvtrain.commands.{what}.{what}", work


def write_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs `old` and `new`, photographs, and models of all kinds."""
    root = tmp_path_factory.mktemp("project")
    for day, name in enumerate(("old", "new"), start=1):
        files = {"config.yaml": "", "split.json": ""}
        run = Run.create(root / "runs" / name, "fit", files=files)
        run.update(status="finished", started=f"2026-01-0{day}", name="config")
        write_archive(run.path / "model.keras")
        (run.path / "mistakes").mkdir()
        Image.new("RGB", (9, 9)).save(run.path / "mistakes" / "00.jpg")
    shutil.copytree(root / "runs" / "old", root / "copied")
    (root / "copied" / "run.json").unlink()
    shutil.copytree(root / "copied", root / "begun", ignore=shutil.ignore_patterns("*.keras"))
    shutil.copytree(root / "begun" / "mistakes", root / "runs" / "pictures")
    ladder = Run.create(root / "runs" / "ladder", "ladder")
    ladder.update(status="finished", started="2020-01-01")
    shutil.copytree(root / "runs" / "old", ladder.path / "scratch")
    for name in ("photos/cat", "photos/dog", "empty", "saved"):
        (root / name).mkdir(parents=True)
    for name in ("photos/cat/1.jpg", "photos/dog/1.jpg", "x.jpg", "IMG_0001"):
        Image.new("RGB", (9, 9)).save(root / name, format="JPEG")
    saved = ("saved/fingerprint.pb", "saved/saved_model.pb", "saved/variables")
    for name in (*saved, "m.onnx", "m.tflite", "m.pt", "m.pth"):
        (root / name).touch()
    (root / "notes.txt").write_text("seen")
    (root / "config.yaml").write_text("data: {source: photos}\n")
    for name in ("best", "model.keras"):
        write_archive(root / name)
    for name, attribute in (("weights.h5", "layer_names"), ("k3.h5", "model_config")):
        with h5py.File(root / name, "w") as file:
            file.attrs[attribute] = "{}"
    return root


@pytest.fixture
def project(made, monkeypatch):
    """The current folder, where commands do nothing; a test only reads it."""
    monkeypatch.chdir(made)
    for what in ("predict", "visualize", "evaluate", "calibrate", "reproduce"):
        monkeypatch.setattr(*_reach(what))
    return made


def said(*arguments):
    """The error that a command line ends in; what it printed before."""
    result = CliRunner().invoke(cli, list(arguments))
    return result.exception, result.output


@pytest.mark.parametrize("command", ["predict", "visualize"])
@pytest.mark.parametrize(
    ("arguments", "what", "advice"),
    [
        ("runs/odl photos/", "there is no such run, file or", "cvtrain COMMAND runs/old photos/"),
        ("runs/odl/ photos/", "there is no such run", "cvtrain COMMAND runs/old photos/"),
        ("old photos/", "there is no such run", "Did you mean runs/old? cvtrain COMMAND runs/old "),
        ("runs/lader/scratch photos/", "no such run", "Name a run: runs/old, runs/new, "),
        ("runs/ladder/scrath x.jpg", "no such run", "cvtrain COMMAND runs/ladder/scratch x.jpg"),
        ("photso x.jpg", "there is no such run, file or folder", "Did you mean photos?"),
        ("IMG_0002 x.jpg", "there is no such run, file or folder", "Did you mean IMG_0001?"),
        (f"{'a' * 300} x.jpg", "there is no such run", "Name a run: runs/old, runs/new"),
        ("runs/z* x.jpg", "there is no such run", "Name a run: "),
        (
            "runs/old/config.yaml x.jpg",
            "is inside the run folder runs/old",
            "COMMAND runs/old x.jpg",
        ),
        ("runs/old/run.json x.jpg", "is inside the run folder runs/old", "COMMAND runs/old x.jpg"),
        ("runs/old/mistakes x.jpg", "is inside the run folder runs/old", "COMMAND runs/old x.jpg"),
        ("runs photos", "contains run folders, but is not one", "Name one: runs/old, runs/new, "),
        ("runs/pictures x.jpg", "not a run folder: it has no run.json", "Name a run: runs/old"),
        ("copied x.jpg", "it contains a Keras model (model.keras), but no run.json", "RUN x.jpg"),
        ("begun x.jpg", "not a run folder: it has no run.json", "Name a run: runs/old"),
        ("saved x.jpg", "contains a TensorFlow SavedModel (saved_model.pb), but no run.json", ""),
        ("empty x.jpg", "not a run folder: it has no run.json and no images", "Name a run: "),
        ("empty", "not a run folder: it has no run.json and no images", "Name a run: "),
        ("config.yaml x.jpg", "has no run.json, and it is not an image: ", ""),
        ("k3.h5 photos/cat", "is a Keras model in HDF5, not a run folder", ""),
        ("weights.h5 photos/cat", "is a file of Keras' weights, without their layers", ""),
        ("best x.jpg", "is a Keras model, not a run folder", "COMMAND RUN x.jpg"),
        ("m.onnx x.jpg", "is an ONNX model, not a run folder", ""),
        ("m.tflite x.jpg", "is a TensorFlow Lite model, not a run folder", ""),
        ("m.pt x.jpg", "is a PyTorch model, not a run folder", ""),
        ("m.pth x.jpg", "is a PyTorch model, not a run folder", ""),
        ("runs/ladder x.jpg", "there is no model in this run of ladder", "runs/ladder/scratch"),
        (
            "photos runs/old",
            "is a run folder, but not the first argument",
            "COMMAND runs/old photos",
        ),
        ("runs/new runs/old", "is a run folder, but not the first argument", "COMMAND runs/old"),
        ("runs/o* x.jpg", "is a run folder, but not the first argument", "COMMAND runs/old x.jpg"),
        ("photos runs/odl", "there is no such run", "Did you mean runs/old? cvtrain COMMAND"),
        ("photos runs/xyz", "there is no such run", "Name a run: "),
        ("photos copied", "it contains a Keras model (model.keras), but no run.json", ""),
        ("photos model.keras", "is a Keras model, not a run folder", "visualize model.keras"),
        ("runs/old model.keras x.jpg", "is a Keras model, not an image", "Leave it out."),
    ],
)
def test_what_is_a_run_or_model_or_looks_like_one_is_refused(
    project, command, arguments, what, advice
):
    error, output = said(command, *arguments.split())
    assert isinstance(error, RunError), error
    assert what in error.message
    assert advice.replace("COMMAND", command) in error.advice
    assert error.advice
    assert output == ""
    assert not (project / "visualize").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("photos/cat/2.jpg", "photos/cat/2.jpg: no such file or folder"),
        ("runs/old photso", "photso: no such file or folder"),
        ("runs/old empty", "empty: holds no images"),
        ("photos/*.png", "photos/*.png: matches no file"),
        ("a.jpg b.jpg", "no images found at a.jpg, b.jpg"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "visualize"])
@pytest.mark.usefixtures("project")
def test_images_none_of_which_is_there_are_told_before_anything_is_loaded(
    command, arguments, message
):
    error, _ = said(command, *arguments.split())
    assert isinstance(error, DataError)
    assert error.message == message
    assert error.advice


@pytest.mark.parametrize(
    ("arguments", "run"),
    [
        ("photos/", "runs/new"),
        ("x.jpg", "runs/new"),
        ("IMG_0001", "runs/new"),
        ("photos/*/1.jpg", "runs/new"),
        ("gone.jpg x.jpg", "runs/new"),
        ("x.jpg gone.jpg photso notes.txt empty", "runs/new"),
        ("photos/*", "runs/new"),
        ("[xn]*.* photos", "runs/new"),
        ("runs/old/mistakes/00.jpg", "runs/new"),
        ("runs/old x.jpg", "runs/old"),
        ("runs/old/ x.jpg gone notes.txt", "runs/old"),
        ("runs/old runs/new/mistakes", "runs/old"),
        ("runs/ladder/scratch x.jpg", "runs/ladder/scratch"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "visualize"])
@pytest.mark.usefixtures("project")
def test_images_alone_are_answered_by_the_newest_run_which_is_told_also_when_quiet(
    command, arguments, run
):
    images = arguments.split()[1:] if arguments.startswith(run) else arguments.split()
    error, output = said(command, *arguments.split(), "-q")
    assert isinstance(error, _Reached), error
    assert error.args == (run, *images)
    assert output == ("run: runs/new (the newest)\n" if run == "runs/new" else "")


@pytest.mark.parametrize("command", ["evaluate", "report", "calibrate", "reproduce", "compare"])
@pytest.mark.parametrize(
    ("argument", "what", "advice"),
    [
        ("runs/odl", "there is no such run folder", "Did you mean runs/old? cvtrain COMMAND"),
        ("odl", "there is no such run folder", "Did you mean runs/old? cvtrain COMMAND"),
        (
            "runs/old/model.keras",
            "is inside the run folder runs/old",
            "Name the folder: cvtrain COMMAND",
        ),
        ("runs", "contains run folders, but is not one", "Name one: runs/old, runs/new"),
        ("model.keras", "is a Keras model, not a run folder", "cvtrain visualize model.keras"),
        ("copied", "contains a Keras model (model.keras), but no run.json", "Name the run folder"),
        ("config.yaml", "not a run folder: it has no run.json", "Name a run: runs/old, runs/new"),
        ("photos", "not a run folder: it has no run.json", "Name a run: runs/old, runs/new"),
    ],
)
@pytest.mark.usefixtures("project")
def test_the_other_commands_say_what_is_no_run_alike(command, argument, what, advice):
    before = ["runs/new"] if command == "compare" else []
    error, _ = said(command, *before, argument)
    assert isinstance(error, RunError)
    assert error.message.startswith(f"{argument}: ")
    assert what in error.message
    assert advice.replace("COMMAND", command) in error.advice
    if "runs/old?" in advice and before:
        assert error.advice.endswith("cvtrain compare runs/new runs/old")


def test_a_run_without_a_model_is_told_before_anything_is_loaded(project, tmp_path, monkeypatch):
    shutil.copytree(project / "runs" / "old", tmp_path / "runs" / "old")
    (tmp_path / "runs" / "old" / "model.keras").unlink()
    monkeypatch.chdir(tmp_path)
    for command in ("evaluate", "calibrate"):
        error, _ = said(command, "runs/old")
        assert isinstance(error, RunError)
        assert error.message == "runs/old: there is no model in this run of fit"


@pytest.mark.parametrize(
    ("arguments", "what", "advice"),
    [
        ("fit runs/odl --resume", "there is no such run", "old? cvtrain fit runs/old --resume"),
        ("fit runs/old/config.yaml --resume", "is inside the run", "cvtrain fit runs/old --resume"),
        ("fit runs/old/model.keras --resume", "is inside the run", "cvtrain fit runs/old --resume"),
        ("fit runs --resume", "contains run folders", "Name one: runs/old, runs/new"),
        ("fit model.keras --resume", "is a Keras model", "cvtrain fit RUN --resume"),
        ("finetune --from runs/odl", "no such run folder", "mean runs/old? --from runs/old"),
        ("finetune --from runs/old/model.keras", "is inside the run folder", "--from runs/old"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_run_to_go_on_from_is_never_another(arguments, what, advice):
    error, _ = said(*arguments.split())
    assert isinstance(error, RunError), error
    assert what in error.message
    assert advice in error.advice


@pytest.mark.usefixtures("project")
def test_a_config_is_resumed_by_its_name_still():
    asked = Project(Path("config.yaml"), (), None, resume=True, accept_changes=False)
    assert asked.open("fit")[1].path == Path("runs/new")


@pytest.mark.parametrize("name", ["m.pt.jpg", "pipe", "photos", "gone.h5", "notes.txt"])
def test_what_is_no_model_is_none(project, name):
    assert model_at(project / name) == ""


def test_the_advised_conversion_of_hdf5_gives_the_same_model(tmp_path, monkeypatch):
    from cvtrain.backend import keras

    monkeypatch.chdir(tmp_path)
    model = flat()
    model.save("it's mine.h5")
    error, _ = said("visualize", "it's mine.h5", "x.jpg")
    python, option, code = shlex.split(error.advice[error.advice.index("python -c ") :])
    assert (python, option) == ("python", "-c")
    exec(code)
    again = keras.saving.load_model("it's mine.keras")
    for mine, other in zip(model.get_weights(), again.get_weights(), strict=True):
        assert (mine == other).all()
