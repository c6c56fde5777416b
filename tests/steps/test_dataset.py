"""The start of every command that reads images, as the config says."""

import shutil
from pathlib import Path

import pytest
from tiny_images import make_images

from cvtrain.commands.data_check import data_check
from cvtrain.commands.evaluate import evaluate
from cvtrain.config import config_for_source, load_config
from cvtrain.errors import ConfigError, DataError
from cvtrain.steps.dataset import open_dataset
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop

SMALL = ["data.image_size=16"]


def opened(source, *overrides):
    config = config_for_source(str(source), [*SMALL, *overrides])
    return open_dataset(config, Stop(), Console(quiet=True))


def test_a_subset_is_opened_as_the_config_says(tmp_path):
    source = make_images(tmp_path / "images", {"red": 20, "green": 20, "blue": 20})
    dataset = opened(source, "data.classes=[red, blue]", "data.train_per_class=5")
    assert dataset.index.class_names == ("blue", "red")
    assert dataset.describe()["counts"] == {
        "train": {"blue": 5, "red": 5},
        "validation": {"blue": 3, "red": 3},
        "test": {"blue": 3, "red": 3},
    }
    left_out = dataset.index.left_out
    assert {reason: len(paths) for reason, paths in left_out.items()} == {
        "images of other classes than data.classes": 20,
        "training images beyond data.train_per_class": 2 * (20 - 5 - 3 - 3),
    }


def test_flat_files_are_opened_by_a_label_pattern(tmp_path):
    source = make_images(tmp_path / "images", {"red": 20, "blue": 20})
    for path in sorted(source.glob("*/*.png")):
        path.rename(source / f"{path.parent.name}.{path.name}")
    dataset = opened(source, "data.label_pattern=^([a-z]+)\\.")
    assert dataset.index.class_names == ("blue", "red")
    assert dataset.describe()["counts"]["train"] == {"blue": 14, "red": 14}
    assert dataset.pixels["red.000.png"].shape == (16, 16, 3)


def test_copies_in_an_unsplit_folder_are_no_reason_to_stop(tmp_path, capsys):
    source = make_images(tmp_path / "images", {"red": 20, "blue": 20})
    for i in range(5):
        shutil.copy(source / "red" / "000.png", source / "red" / f"copy{i}.png")
    config = config_for_source(str(source), SMALL)
    dataset = opened(source)
    warning = capsys.readouterr().err
    assert "copies of other images, each in the split of its image: 5" in warning
    homes = {
        split
        for split, samples in dataset.index.splits.items()
        for path in samples.paths
        if "copy" in path or path == "red/000.png"
    }
    assert len(homes) == 1
    assert opened(source).digest == dataset.digest
    data_check(config, console=Console(quiet=True))


def test_a_class_that_is_not_there_is_an_error(tmp_path):
    source = make_images(tmp_path / "images", {"red": 4, "blue": 4})
    with pytest.raises(DataError, match="no class bleu") as caught:
        opened(source, "data.classes=[red, bleu]")
    assert caught.value.advice == "Did you mean blue?"


@pytest.mark.slow
def test_a_run_on_a_subset_is_measured_on_it(train, tmp_path):
    overrides = ["data.classes=[red, blue]", "data.train_per_class=4", "fit.epochs=1"]
    run = train(tmp_path / "run", *overrides)
    assert run.content["class_names"] == ["blue", "red"]
    assert run.content["data"]["counts"]["train"] == {"blue": 4, "red": 4}
    metrics = evaluate(run, source=None, split="test", output=None, console=Console(quiet=True))
    assert metrics["accuracy"] == run.content["metrics"]["test"]["accuracy"]
    assert metrics["num_images"] == sum(run.content["data"]["counts"]["test"].values())


def test_the_record_says_what_the_check_found(tmp_path):
    source = make_images(
        tmp_path / "images",
        {f"{split}/{name}": 4 for split in ("train", "validation", "test") for name in "ab"},
    )
    (source / "train/a/broken.png").write_bytes(b"no image")
    shutil.copy(source / "train/a/000.png", source / "test/a/leak.png")
    shutil.copy(source / "train/b/000.png", source / "train/b/copy.png")
    check = opened(source, "data.on_bad=skip").describe()["check"]
    problems = check.pop("problems")
    assert check == {"num_files": 27, "bad": 1, "leaks": 1, "doubtful": 1, "skipped": 2}
    assert {(p["path"], p["severity"]) for p in problems} == {
        ("train/a/broken.png", "bad"),
        ("train/a/000.png", "bad"),
        ("train/b/copy.png", "doubtful"),
    }
    assert "the same image as test/a/leak.png" in next(
        p["what"] for p in problems if p["path"] == "train/a/000.png"
    )


def test_the_record_of_the_check_is_bounded(tmp_path):
    source = make_images(tmp_path / "images", {"a": 8, "b": 8})
    for i in range(230):
        shutil.copy(source / "a/000.png", source / f"a/copy{i}.png")
    check = opened(source).describe()["check"]
    assert check["doubtful"] == 230
    assert len(check["problems"]) == 200


@pytest.mark.parametrize(
    ("text", "overrides", "lines"),
    [
        ("{test: 0}", (), ["config.yaml:3: data.split.test: 0 leaves no images for test"]),
        ("{validation: 0.0}", (), ["config.yaml:3: data.split.validation: 0 leaves no images"]),
        ("{validation: 0, test: 0}", (), ["config.yaml:3: data.split.validation: 0", "test: 0"]),
        (
            "{test: 0.1}",
            ("data.split.test=0",),
            ["--set data.split.test=0: data.split.test: 0 leaves no images for test"],
        ),
    ],
)
def test_a_share_of_0_is_refused_by_its_line_before_an_image_is_read(
    text, overrides, lines, tmp_path, monkeypatch
):
    make_images(tmp_path / "photos", {"cat": 6, "dog": 6})
    (tmp_path / "config.yaml").write_text(f"data:\n  source: photos\n  split: {text}\n")
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("config.yaml"), overrides)
    monkeypatch.setattr("cvtrain.steps.dataset.check", None)
    with pytest.raises(ConfigError) as caught:
        open_dataset(config, Stop(), Console(quiet=True))
    said = caught.value.message.splitlines()
    assert len(said) == len(lines)
    assert all(line in each for line, each in zip(lines, said, strict=True))
    assert all(each.endswith(f"{tmp_path / 'photos'} has no such split") for each in said)
    assert "such as 0.15" in caught.value.advice


def test_a_share_of_0_is_right_where_the_source_has_the_split(tmp_path):
    counts = {f"{split}/{name}": 4 for split in ("train", "test") for name in ("cat", "dog")}
    make_images(tmp_path / "photos", counts | {"validation/cat": 2, "validation/dog": 2})
    split = ["data.split.test=0", "data.split.validation=0", "data.on_leak=allow"]
    config = config_for_source(str(tmp_path / "photos"), split)
    index = open_dataset(config, Stop(), Console(quiet=True)).index
    assert list(index.splits) == ["train", "validation", "test"]


def test_configs_that_say_the_same_are_the_same_wherever_it_is_said(tmp_path):
    (tmp_path / "config.yaml").write_text("data: {source: digits, split: {test: 0.2}}\n")
    said = load_config(tmp_path / "config.yaml")
    assert said == config_for_source("digits", ["data.split.test=0.2"])
    assert said.name("data", "split", "test").endswith("config.yaml:1: data.split.test")
    assert said.model_copy().name("seed").endswith(": seed")
