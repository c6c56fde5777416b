"""A run goes on as it was started, or is refused with every difference, or says that it is not."""

import json
import os
import shutil

import keras
import numpy as np
import PIL
import pytest
from PIL import Image

from cvtrain.config import load_config
from cvtrain.errors import ConfigError, RunError
from cvtrain.runs.run import Run, RunRequest
from cvtrain.steps.session import open_session
from cvtrain.system.console import Console


@pytest.fixture
def images(tmp_path, image_folder):
    return shutil.copytree(image_folder, tmp_path / "images")


class Listening(Console):
    """Keeps what is said."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def info(self, text):
        self.lines.append(text)

    warning = info


@pytest.fixture
def begin(tmp_path, config_path, images):
    """begin(*overrides, ...) -> Run: as far as a command goes before it computes anything."""

    def start(*overrides, command="fit", resume=False, accept=False, source=None, console=None):
        config = load_config(config_path, [f"data.source={images}", *overrides])
        with open_session(
            command,
            config,
            RunRequest(tmp_path / "run", "tiny", resume, accept),
            console or Console(quiet=True),
            source=source,
        ) as session:
            return session.run

    return start


@pytest.fixture
def refused(begin, tmp_path):
    """refused(*overrides, ...) -> the lines of the error; the run folder is left as it is."""

    def resume(*overrides, **options):
        before = content_of(tmp_path / "run")
        with pytest.raises(RunError) as caught:
            begin(*overrides, resume=True, **options)
        assert content_of(tmp_path / "run") == before
        assert ("--accept-changes" in caught.value.advice) == (
            "cannot be accepted" not in caught.value.message and not options.get("accept")
        )
        first, *lines = caught.value.message.splitlines()
        assert first == f"{tmp_path / 'run'}: its inputs have changed since it was started:"
        return [line.removeprefix("  ") for line in lines]

    return resume


def content_of(folder):
    """What is in a run folder, but for the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_a_run_is_exact_and_records_what_it_depends_on(begin):
    record = begin().content
    assert record["exact"] is True
    assert "accepted_changes" not in record
    assert record["environment"]["threads"]["available"] == len(os.sched_getaffinity(0))
    assert {"keras", "opencv", "pillow", "scikit-learn"} <= set(record["versions"])
    assert record["identity"]["data"] == record["data"]["digest"]
    assert record["identity"]["weights"] == {}


def test_unchanged_it_goes_on_and_stays_exact(begin):
    begin()
    console = Listening()
    record = begin(resume=True, console=console).content
    assert record["exact"] is True
    assert "accepted_changes" not in record
    assert not any("accepted" in line or "earlier" in line for line in console.lines)


def test_images_may_move_and_the_log_may_change(begin, images, tmp_path):
    begin()
    moved = shutil.move(images, tmp_path / "moved")
    record = begin(f"data.source={moved}", "log=[tensorboard]", resume=True).content
    assert record["exact"] is True
    assert str(moved) in (tmp_path / "run" / "config.yaml").read_text()
    assert begin(f"data.source={moved}", resume=True).content["exact"] is True


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (("fit.epochs=20",), ["fit.epochs: 4 -> 20"]),
        (
            ("augment=null",),
            [
                "augment.flip: horizontal -> not set",
                "augment.rotate: 10.0 -> not set",
                "augment.brightness: 0.1 -> not set",
            ],
        ),
        (("fit.early_stopping=3", "seed=5"), ["seed: 3 -> 5", "fit.early_stopping: not set -> 3"]),
        (("data.resize=crop",), ["data.resize: stretch -> crop"]),
    ],
)
def test_a_config_is_compared_key_by_key(begin, refused, overrides, lines):
    begin()
    found = refused(*overrides)
    assert set(lines) <= set(found)
    assert all(
        line.split(": ")[0].startswith(("augment.", "fit.", "seed", "data.")) for line in found
    )
    assert begin(*overrides, resume=True, accept=True).content["exact"] is False


@pytest.mark.parametrize(
    "override",
    [
        "fit.model.filters=[4, 4]",
        "fit.model.dropout=0.5",
        "fit.optimizer.name=sgd",
        "fit.monitor=val_accuracy",
        "fit.metrics=[macro_f1]",
        "fit.ema=0.9",
        "data.image_size=[16, 16]",
        "precision=bfloat16",
    ],
)
def test_another_model_cannot_be_accepted(begin, refused, override):
    begin()
    (line,) = refused(override, "fit.epochs=4", accept=True)
    assert line.startswith(f"{override.partition('=')[0]}: ")
    assert line.endswith("(cannot be accepted)")


def _repaint(path):
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (
            lambda root: _repaint(root / "train/red/000.png"),
            ["images: the content of files changed"],
        ),
        (
            lambda root: _repaint(
                shutil.copy(root / "train/red/000.png", root / "train/red/new.png")
            ),
            ["images: 1 added, such as train/red/new.png"],
        ),
        (
            lambda root: [(root / f"validation/blue/00{i}.png").unlink() for i in (1, 3)],
            ["images: 2 removed, such as validation/blue/001.png"],
        ),
        (
            lambda root: shutil.move(root / "test/red/001.png", root / "train/red/001b.png"),
            [
                "images: 1 added, such as train/red/001b.png",
                "images: 1 removed, such as test/red/001.png",
            ],
        ),
    ],
)
def test_other_images_are_named(begin, refused, images, change, lines):
    begin()
    change(images)
    assert refused() == lines
    record = begin(resume=True, accept=True).content
    assert [entry["changes"] for entry in record["accepted_changes"]] == [lines]


MANIFEST = "path,label,split\n"


def _manifest(root, splits):
    """A manifest of the first images of two classes, in these splits."""
    lines = [
        f"train/{name}/{i:03d}.png,{name},{split}\n"
        for name in ("red", "blue")
        for i, split in enumerate(splits)
    ]
    (root / "manifest.csv").write_text(MANIFEST + "".join(lines))
    return f"data.source={root / 'manifest.csv'}"


def test_what_was_trained_on_cannot_become_a_test(begin, refused, images):
    source = _manifest(images, ["train", "train", "validation", "test"])
    begin(source)
    _manifest(images, ["train", "test", "validation", "train"])
    lines = refused(source, accept=True)
    assert lines == [
        "images: 4 moved to another split or class, such as train/blue/001.png",
        "images: 2 trained on, and now in validation or test, such as train/blue/001.png "
        "(cannot be accepted)",
    ]


def test_other_classes_cannot_be_accepted(begin, refused, images):
    begin()
    for split in ("train", "validation", "test"):
        shutil.move(images / split / "red", images / split / "pink")
    assert refused(accept=True) == [
        "classes: blue, green, red -> blue, green, pink (cannot be accepted)"
    ]


@pytest.mark.parametrize("command", ["probe", "learning-curve", "ladder"])
def test_the_rows_of_a_table_are_of_the_same_images(begin, refused, images, command):
    begin(command=command)
    _repaint(images / "train/red/000.png")
    assert refused(command=command, accept=True) == [
        "images: the content of files changed (cannot be accepted)"
    ]


def test_other_files_of_weights_are_told(begin, refused, tmp_path):
    for name in ("base.h5", "other.h5"):
        (tmp_path / name).write_bytes(b"weights")
    backbone = "extract_features.backbone={{name: mobilenet, weights: {}}}"
    settings = backbone.format(tmp_path / "base.h5")
    begin(settings, command="extract-features")
    elsewhere = backbone.format(tmp_path / "other.h5")
    assert begin(elsewhere, command="extract-features", resume=True).content["exact"] is True
    (tmp_path / "other.h5").write_bytes(b"others!")
    found = refused(elsewhere, command="extract-features")
    assert found == ["extract_features.backbone.weights: other weights than at the start"]
    found = refused(backbone.format("imagenet"), command="extract-features")
    assert found == ["extract_features.backbone.weights: other weights than at the start"]


def test_another_model_to_start_from_is_told(begin, refused, tmp_path):
    source = Run.create(tmp_path / "source", "extract-features", weights_sha256="a" * 64)
    source.model_path.write_bytes(b"model")
    record = begin(command="finetune", source=source).content
    assert record["source"] == {"run": str(source.path), "weights": "a" * 64}
    source.model_path.write_bytes(b"trained on")
    assert refused(command="finetune", source=source) == ["source: other weights than at the start"]


def test_everything_at_once(begin, refused, images, monkeypatch):
    run = begin()
    run.update(versions=run.content["versions"] | {"keras": "3.0.0", "pillow": "1.0"})
    (images / "test/red/000.png").unlink()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setattr("cvtrain.system.machine.instructions", lambda: ["avx"])
    before = run.content
    found = refused("fit.epochs=20", "fit.batch_size=4")
    threads = before["environment"]["threads"]["available"]
    lost = sorted(set(before["environment"]["instructions"]) - {"avx"})
    assert found == [
        "fit.epochs: 4 -> 20",
        "fit.batch_size: 8 -> 4",
        "images: 1 removed, such as test/red/000.png",
        f"keras: 3.0.0 -> {keras.__version__}",
        f"pillow: 1.0 -> {PIL.__version__}",
        f"instructions of the processor, lost: {', '.join(lost)}",
        f"threads: {threads} -> 64",
        "TF_ENABLE_ONEDNN_OPTS: not set -> 0",
    ]


def test_what_only_the_engine_knows_is_compared_too(begin, refused):
    run = begin()
    device = run.content["device"].rpartition(",")[0]
    run.update(device="gpu: NVIDIA H200", versions=run.content["versions"] | {"jax": "0.9"})
    assert refused() == ["jax: 0.9 -> not used", f"device: gpu: NVIDIA H200 -> {device}"]


def test_what_is_accepted_is_recorded_said_and_not_asked_again(begin, refused):
    begin()
    console = Listening()
    begin("fit.epochs=20", resume=True, accept=True, console=console)
    assert "accepted: fit.epochs: 4 -> 20" in console.lines
    assert begin("fit.epochs=20", resume=True).content["exact"] is False
    assert refused() == ["fit.epochs: 20 -> 4"]
    record = begin("fit.epochs=20", "fit.batch_size=4", resume=True, accept=True).content
    changes = [entry["changes"] for entry in record["accepted_changes"]]
    assert changes == [["fit.epochs: 4 -> 20"], ["fit.batch_size: 8 -> 4"]]
    assert all(entry["when"].endswith("+00:00") for entry in record["accepted_changes"])


def test_a_config_that_was_edited_in_the_run_folder_is_told(begin, refused, tmp_path):
    begin()
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text().replace("epochs: 4", "epochs: 9"))
    told = "config.yaml: edited in the run folder since the run was started"
    assert refused("fit.epochs=9") == [told]
    assert refused() == [told, "fit.epochs: 9 -> 4"]


def test_runs_of_earlier_versions_go_on_with_a_remark(begin):
    run = begin()
    for field in ("exact", "identity", "environment"):
        del run.content[field]
    libraries = ("opencv", "pillow", "scikit-learn")
    versions = {k: v for k, v in run.content["versions"].items() if k not in libraries}
    run.update(versions=versions)
    console = Listening()
    record = begin(resume=True, console=console).content
    assert any("earlier version" in line for line in console.lines)
    assert "exact" not in record
    with pytest.raises(RunError, match=r"fit\.epochs: 4 -> 20"):
        begin("fit.epochs=20", resume=True)


def test_what_was_killed_before_anything_was_known_just_begins(begin, tmp_path):
    Run.create(tmp_path / "run", "fit", name="tiny", exact=True)
    console = Listening()
    assert begin(resume=True, console=console).content["exact"] is True
    assert not any("earlier" in line for line in console.lines)
    assert (tmp_path / "run" / "split.json").exists()


def test_another_command_does_not_go_on_with_a_run(begin):
    begin()
    with pytest.raises(RunError, match="is a run of fit, not of probe") as caught:
        begin(command="probe", resume=True)
    assert caught.value.advice.startswith("Go on: cvtrain fit ")


@pytest.mark.parametrize(
    "fields",
    [
        {"identity": []},
        {"identity": {"weights": "x"}},
        {"environment": {"threads": 1}},
        {"environment": "x"},
        {"accepted_changes": [{"when": "yesterday", "changes": []}]},
    ],
)
def test_a_damaged_record_is_an_error_that_names_the_field(begin, fields):
    run = begin()
    (run.path / "run.json").write_text(json.dumps(run.content | fields))
    with pytest.raises(RunError, match=rf"run\.json: {next(iter(fields))}"):
        begin(resume=True)


def test_a_damaged_config_of_the_run_is_an_error_that_names_it(begin, tmp_path):
    begin()
    (tmp_path / "run" / "config.yaml").write_text("data: [")
    with pytest.raises(ConfigError, match=r"run/config\.yaml"):
        begin(resume=True)
