"""Images that were moved after training: every command that reads them again says what to type."""

import shutil

import pytest
from click.testing import CliRunner
from interrupting import InterruptingConsole
from tiny_images import make_images

from cvtrain.cli import cli
from cvtrain.commands.evaluate import evaluate
from cvtrain.commands.reproduce import command_of
from cvtrain.errors import ConfigError, DataError, Stopped
from cvtrain.runs.moved_images import MOVED
from cvtrain.runs.run import Run
from cvtrain.system.console import Console

QUIET = Console(quiet=True)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def moved(train, tmp_path_factory):
    """A finished run and a stopped one, of images without splits that lie elsewhere now."""
    root = tmp_path_factory.mktemp("moved")
    make_images(root / "old", dict.fromkeys(("red", "green", "blue"), 12))
    settings = (f"data.source={root / 'old'}", "fit.epochs=2")
    run = train(root / "run", *settings)
    with pytest.raises(Stopped):
        train(root / "stopped", *settings, console=InterruptingConsole("epoch 1/2"))
    (root / "old").rename(root / "new")
    return run, Run.open(root / "stopped"), root / "new"


def type_in(*command):
    """The exception in which a command line ends, None for none; and what it said."""
    result = CliRunner().invoke(cli, list(map(str, command)))
    return result.exception, result.output


def obey(command, advice, folder):
    """Type the command again with what is advised."""
    added = advice.partition("add where ")[2].partition(": ")[2].splitlines()[0]
    return type_in(*command, *added.replace("FOLDER", str(folder)).split())


@pytest.mark.parametrize(
    ("command", "written"),
    [
        (("evaluate", "RUN"), "evaluate/new-test"),
        (("visualize", "RUN"), "visualize/gradcam"),
        (("visualize", "RUN", "--depth"), "visualize/depth"),
    ],
)
def test_it_is_told_what_is_gone_and_the_advice_works(moved, command, written):
    run, _, folder = moved
    command = [run.path if word == "RUN" else word for word in command]
    error, _ = type_in(*command)
    assert isinstance(error, DataError)
    assert error.message == f"{folder.parent / 'old'} is gone, with the images of {run.path}"
    assert not (run.path / written).exists()
    assert obey(command, error.advice, folder)[0] is None
    assert (run.path / written).is_dir()


def test_a_stopped_run_goes_on_as_if_its_images_had_stayed(moved):
    run, stopped, folder = moved
    command = ["fit", stopped.path, "--resume"]
    error, _ = type_in(*command)
    assert isinstance(error, DataError)
    assert error.message == f"{folder.parent / 'old'} is gone"
    assert obey(command, error.advice, folder)[0] is None
    resumed = Run.open(stopped.path)
    assert resumed.content["weights_sha256"] == run.content["weights_sha256"]
    assert resumed.content["exact"]


def test_moved_images_are_measured_as_they_were_split(moved, tmp_path, capsys):
    run, _, folder = moved
    for split in ("train", "validation", "test"):
        options = {"split": split, "output": tmp_path / split, "console": QUIET}
        metrics = evaluate(run, source=str(folder), **options)
        for name in ("num_images", "accuracy", "loss"):
            assert metrics[name] == pytest.approx(run.content["metrics"][split][name]), name
    what = (
        "those of test are measured, but not 24 of train, 6 of validation, "
        "0 that the run has not used"
    )
    assert f"contains the images of the run: {what}\n" in capsys.readouterr().err
    # A manifest of the same files, without splits, is no way round that.
    rows = "".join(f"{p.parent.name}/{p.name},{p.parent.name}\n" for p in folder.glob("*/*"))
    (folder / "all.csv").write_text(f"path,label\n{rows}")
    assert evaluate(run, source=str(folder / "all.csv"), **options) == metrics
    (folder / "all.csv").unlink()


def test_other_images_of_some_of_these_names_are_measured_as_a_whole(moved, tmp_path):
    run, _, _ = moved
    other = make_images(tmp_path / "other", dict.fromkeys(("red", "green", "blue"), 6), seed=1)
    metrics = evaluate(run, source=str(other), split="test", output=None, console=QUIET)
    assert metrics["num_images"] == 18


def test_images_some_of_which_are_gone_are_told_with_advice(moved, tmp_path, capsys):
    run, _, folder = moved
    rest = shutil.copytree(folder, tmp_path / "rest")
    lost = run.read_json("split.json")["test"]["red"][0]
    (rest / lost).unlink()
    copy = Run.open(shutil.copytree(run.path, tmp_path / "copy"))
    copy.update(data=copy.content["data"] | {"root": str(rest)})
    metrics = evaluate(copy, source=None, split="test", output=None, console=QUIET)
    num_images = run.content["metrics"]["test"]["num_images"]
    assert metrics["num_images"] == num_images - 1
    what = f"1 of {num_images} images of {copy.path} are gone, such as {lost}"
    assert f"warning: {rest}: {what}\n  {MOVED}\n" in capsys.readouterr().err


def test_a_report_warns_and_finds_the_pictures_where_they_are(moved, tmp_path):
    run, _, folder = moved
    command = ["report", shutil.copytree(run.path, tmp_path / "run")]
    error, said = type_in(*command)
    assert error is None
    assert "pictures are missing" in said
    error, said = obey(command, said, folder)
    assert error is None
    assert "missing" not in said


def test_a_reproduction_is_told_before_anything_is_begun(moved):
    run, _, folder = moved
    error, _ = type_in("reproduce", run.path)
    assert isinstance(error, DataError)
    assert (error.message, error.advice) == (f"{folder.parent / 'old'} is gone", MOVED)
    assert not list(run.path.parent.glob("*reproduce*"))


def test_the_wrong_folder_is_told_and_one_that_is_not_asked_for_is_refused(moved):
    run, _, folder = moved
    error, _ = type_in("visualize", run.path, "--data", folder / "red")
    assert isinstance(error, DataError)
    assert f"images of {run.path} are gone, such as blue/" in error.message
    for what in (folder, "--filters"):
        error, _ = type_in("visualize", run.path, what, "--data", folder)
        assert isinstance(error, ConfigError)
        assert "--data" in error.message


def test_the_start_of_a_fine_tuned_run_is_found_beside_it_when_both_have_moved(moved, monkeypatch):
    run, stopped, _ = moved
    seen = []
    monkeypatch.setattr(
        "cvtrain.commands.reproduce.check_same_weights", lambda start, *_: seen.append(start)
    )
    source = {"run": f"/gone/{run.path.name}", "weights": run.content["weights_sha256"]}
    tuned = Run(stopped.path, stopped.content | {"command": "finetune", "source": source})
    command_of(tuned, None)
    assert [start.path for start in seen] == [run.path]
