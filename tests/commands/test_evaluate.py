"""Evaluation repeats the run's numbers, and measures other images under the run's names."""

import csv
import json
import shutil
import zipfile

import pytest

from cvtrain.commands.calibrate import calibrate
from cvtrain.commands.evaluate import evaluate
from cvtrain.errors import DataError, ResourceError, RunError
from cvtrain.runs.run import Run
from cvtrain.sections import Columns
from cvtrain.system.console import Console

QUIET = Console(quiet=True)


def test_the_runs_own_test_images_give_the_runs_own_numbers(finished):
    metrics = evaluate(finished, source=None, split="test", output=None, console=QUIET)
    assert metrics == finished.content["metrics"]["test"]
    folder = finished.path / "evaluate" / "test"
    saved = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert {key: saved[key] for key in metrics} == metrics
    ours = (folder / "predictions.csv").read_text(encoding="utf-8")
    assert ours == (finished.path / "predictions-test.csv").read_text(encoding="utf-8")
    assert (folder / "figures" / "confusion_matrix.png").exists()


@pytest.mark.slow
def test_new_files_in_the_source_do_not_change_the_runs_split(train, tmp_path, image_folder):
    source = shutil.copytree(image_folder / "train", tmp_path / "unsplit")
    run = train(tmp_path / "run", f"data.source={source}", "fit.epochs=1")
    before = run.content["metrics"]["test"]
    for i in range(10):
        shutil.copy(image_folder / "test" / "red" / "000.png", source / "red" / f"new{i}.png")
    metrics = evaluate(run, source=None, split="test", output=None, console=QUIET)
    assert metrics == before


def test_other_images_are_matched_by_class_name(finished, tmp_path, image_folder):
    source = tmp_path / "other"
    shutil.copytree(image_folder / "test" / "red", source / "red")
    shutil.copytree(image_folder / "test" / "green", source / "green")
    output = tmp_path / "out"
    metrics = evaluate(finished, source=str(source), split="test", output=output, console=QUIET)
    assert metrics["num_images"] == 10
    assert metrics["per_class"]["blue"]["num_images"] == 0
    with (output / "predictions.csv").open(newline="", encoding="utf-8") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"red", "green"}


def test_a_folder_of_others_stays_and_one_of_ours_is_replaced(finished, tmp_path):
    theirs, ours = tmp_path / "dvc", tmp_path / "ours"
    theirs.mkdir()
    (theirs / "metrics.json").write_text('{"accuracy": 0.9}')
    options = {"split": "test", "console": QUIET}
    with pytest.raises(ResourceError, match=r"not known to have written: metrics\.json"):
        evaluate(finished, source=None, output=theirs, **options)
    assert (theirs / "metrics.json").read_text() == '{"accuracy": 0.9}'
    for _ in range(2):
        evaluate(finished, source=None, output=ours, **options)


@pytest.mark.slow
def test_flat_files_are_read_as_those_of_the_training_were(train, tmp_path, image_folder):
    flat = {name: tmp_path / name for name in ("train", "other")}
    for split, folder in flat.items():
        folder.mkdir()
        for path in (image_folder / ("train" if split == "train" else "test")).rglob("*.png"):
            shutil.copy(path, folder / f"{path.parent.name}.{path.stem}.png")
    pattern = r"data.label_pattern=^([a-z]+)\."
    run = train(tmp_path / "run", f"data.source={flat['train']}", pattern, "fit.epochs=1")
    options = {"split": "test", "output": None, "console": QUIET}
    by_name = evaluate(run, source=str(flat["other"]), **options)
    by_folder = evaluate(run, source=str(image_folder / "test"), **options)
    assert by_name["num_images"] == 15
    assert by_name["confusion_matrix"] == by_folder["confusion_matrix"]


@pytest.mark.slow
def test_manifests_are_read_as_that_of_the_training_was(train, tmp_path, image_folder):
    """Other columns than those are named by --columns, and the usual ones need nothing."""
    rows = {
        split: [(p.relative_to(image_folder), p.parent.name) for p in paths]
        for split in ("train", "test")
        for paths in [sorted((image_folder / split).rglob("*.png"))]
    }

    def write(name, header, split, suffix):
        lines = [f"{path.with_suffix(suffix)},{label}" for path, label in rows[split]]
        (tmp_path / name).write_text("\n".join([header, *lines]))
        return str(tmp_path / name)

    columns = Columns(path="id", label="class", folder=str(image_folder), suffix=".png")
    said = "data.columns=" + json.dumps(columns.model_dump())
    source = write("train.csv", "id,class", "train", "")
    run = train(tmp_path / "run", f"data.source={source}", said, "fit.epochs=1")
    options = {"split": "test", "output": None, "console": QUIET}
    expected = evaluate(run, source=str(image_folder / "test"), **options)
    metrics = evaluate(run, source=write("a.csv", "id,class", "test", ""), **options)
    assert metrics == expected
    with pytest.raises(DataError, match="received: file,label"):
        evaluate(run, source=write("b.csv", "file,label", "test", ".png"), **options)
    other = Columns(path="file", folder=str(image_folder))
    assert evaluate(run, source=str(tmp_path / "b.csv"), columns=other, **options) == expected
    usual = tmp_path / "usual.csv"
    usual.write_text("path,label\n" + "".join(f"{image_folder / p},{c}\n" for p, c in rows["test"]))
    assert evaluate(run, source=str(usual), **options) == expected


def test_a_model_that_cannot_be_run_is_told_in_a_line(finished, tmp_path):
    """Its arrays are right, and a value of its config makes no sense to the engine."""
    folder = shutil.copytree(finished.path, tmp_path / "copy")
    with zipfile.ZipFile(folder / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Rescaling":
            layer["config"]["scale"] = "1/255"
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(RunError, match="cannot be") as caught:
        evaluate(Run.open(folder), source=None, split="test", output=None, console=QUIET)
    assert "\n" not in caught.value.message


def test_unknown_classes_are_refused(finished, tmp_path, image_folder):
    shutil.copytree(image_folder / "test" / "red", tmp_path / "other" / "rad")
    with pytest.raises(DataError, match="rad"):
        evaluate(finished, source=str(tmp_path / "other"), split="test", output=None, console=QUIET)


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_a_damaged_model_is_told_in_a_line(finished, tmp_path, content):
    folder = shutil.copytree(finished.path, tmp_path / "copy")
    if content is None:
        model = (folder / "model.keras").read_bytes()
        content = model[: len(model) // 2]
    (folder / "model.keras").write_bytes(content)
    with pytest.raises(RunError, match=r"model\.keras: cannot be opened"):
        evaluate(Run.open(folder), source=None, split="test", output=None, console=QUIET)


def test_a_model_of_another_run_is_refused(finished, tmp_path):
    folder = shutil.copytree(finished.path, tmp_path / "copy")
    run = Run.open(folder)
    run.update(image_size=[99, 99])
    with pytest.raises(RunError, match="takes"):
        evaluate(run, source=None, split="test", output=None, console=QUIET)


def test_a_run_that_abstains_is_measured_as_that_too(finished, tmp_path, capsys):
    run = Run.open(shutil.copytree(finished.path, tmp_path / "abstaining"))
    calibrate(run, coverage=0.5, risk=None, off=False, console=QUIET)
    set_up = json.loads((run.path / "abstention.json").read_text(encoding="utf-8"))
    metrics = evaluate(run, source=None, split="test", output=None, console=QUIET)
    choice = {key: set_up[key] for key in ("temperature", "threshold")}
    assert metrics.pop("abstention") == choice | set_up["test"]
    assert metrics == finished.content["metrics"]["test"]
    assert "of 100 images like these it answers about" in capsys.readouterr().out
