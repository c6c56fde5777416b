"""The config that is written: it loads, it trains, and it says what was found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import run_all
from PIL import Image
from tiny_images import make_images

from cvtrain.commands import init as init_module
from cvtrain.commands.init import init
from cvtrain.config import load_config
from cvtrain.errors import ConfigError, DataError
from cvtrain.sections import Columns
from cvtrain.steps.dataset import open_dataset
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop

QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """No weights at hand, no network, and an empty folder to work in."""
    monkeypatch.setattr(init_module, "problem_fetching", lambda _address: "no network")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)


def write(source, output=Path("config.yaml"), **options):
    """The text of the config for `source`, and what it says."""
    defaults = {"weights_file": None, "force": False, "estimate": False}
    init(str(source), output, console=QUIET, **(defaults | options))
    return output.read_text(), load_config(output)


def test_a_config_names_every_stage_and_trains_on_what_the_source_splits(image_folder):
    text, config = write(image_folder)
    assert config.data.source == str(image_folder)
    assert "split:" not in text
    for line in (
        "cvtrain fit config.yaml",
        "cvtrain extract-features",
        "cvtrain finetune",
        "cvtrain visualize --cam",
    ):
        assert f"#   {line}" in text
    assert config.fit.model.padding == "same"
    assert config.finetune is not None
    assert config.augment.flip == "horizontal"
    keys = [line.split(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert keys == ["seed", "data", "augment", "fit", "extract_features", "finetune"]


def test_what_has_no_split_gets_one(tmp_path):
    make_images(tmp_path / "images", {"red": 10, "green": 10})
    text, config = write(tmp_path / "images")
    assert "split: {validation: 0.15, test: 0.15}" in text
    counts = open_dataset(config, Stop(), QUIET).index.counts
    assert {split: sum(per_class.values()) for split, per_class in counts.items()} == {
        "train": 12,
        "validation": 4,  # 0.15 of ten are two, to whole images
        "test": 4,
    }


def test_a_messy_folder_trains_without_a_change(tmp_path):
    splits = ("train", "validation", "test")
    names = ("a # b: {c}", "'quoted\"", "null", "ünï 图")
    root = make_images(tmp_path / "me ssy", {f"{s}/{n}": 5 for s in splits for n in names})
    (root / "train/null/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    (root / "train/null/note.txt").write_text("not an image")
    leak = (root / "train/null/000.png").read_bytes()
    (root / "test/null/leak.png").write_bytes(leak)
    text, config = write(root)
    assert config.data.on_bad == "skip"
    assert "2 files cannot be used" in text
    dataset = open_dataset(config, Stop(), QUIET)
    assert set(dataset.index.class_names) == set(names)
    assert len(dataset.index.splits["train"].paths) == 4 * 5 - 1
    assert "allow" not in text


def test_files_of_sixteen_bits_that_hold_twelve_get_their_range(tmp_path, capsys):
    for i in range(12):
        values = np.random.default_rng(i).integers(0, 4096, (20, 20), dtype=np.uint16)
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    _, config = write(tmp_path / "images")
    assert config.data.range == (0, 4095)
    assert "-> range: [0, 4095]" in capsys.readouterr().out
    dataset = open_dataset(config, Stop(), QUIET)
    assert dataset.report.num_decoded == 0  # as it was checked
    assert dataset.report.problems == ()
    assert dataset.pixels["a/0.png"].max() > 200


def test_clean_images_are_not_skipped(image_folder):
    text, _ = write(image_folder)
    assert "on_bad" not in text
    assert "range" not in text


@pytest.mark.parametrize("name", ["# no comment", "- item", "yes", "1e3", "a: b", "x'y\"z"])
def test_classes_that_are_written_are_read_back(tmp_path, name):
    root = make_images(tmp_path / "images", {"red": 5, name: 5, "rare": 1})
    text, config = write(root)
    assert set(config.data.classes) == {"red", name}
    assert "rare (1)" in text
    open_dataset(config, Stop(), QUIET)


def test_a_hostile_name_of_the_folder_stays_in_its_place(tmp_path):
    root = make_images(tmp_path / "new\nfit: {epochs: 1} # \x1b[31m", {"red": 5, "green": 5})
    _, config = write(root)
    assert config.data.source == str(root)
    assert config.fit.epochs != 1


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    root = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    make_images(Path(root), {"red": 5, "green": 5})
    with pytest.raises(ConfigError, match=r"caf\\udce9: the name is not UTF-8"):
        write(root)
    assert not Path("config.yaml").exists()


def write_list(root, header, folder):
    make_images(root / folder, {"red": 8, "green": 8})
    paths = sorted((root / folder).rglob("*.png"))
    lines = [f"{p.parent.name}/{p.stem},{p.parent.name}" for p in paths]
    (root / "list.csv").write_text("\n".join([header, *lines]))
    return root / "list.csv"


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("id,breed", {"path": "id", "label": "breed", "folder": "img: 1", "suffix": ".png"}),
        ("path,label", {"folder": "img: 1", "suffix": ".png"}),
    ],
)
def test_columns_that_are_beyond_doubt_are_written(tmp_path, capsys, header, columns):
    source = write_list(tmp_path / "set", header, "img: 1")
    text, config = write(source)
    assert config.data.columns == Columns(**columns)
    assert "The columns of the manifest" in text
    assert open_dataset(config, Stop(), QUIET).index.class_names == ("green", "red")
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("labels")]
    assert "green (8), red (8)" in row
    assert "-> columns: {" in row


def test_columns_that_are_not_are_asked_for(tmp_path):
    source = write_list(tmp_path / "set", "id,breed", "large")
    write_list(tmp_path / "set", "id,breed", "small")
    with pytest.raises(DataError, match=r"also in small") as caught:
        write(source)
    assert "init: --columns" in caught.value.advice
    asked = Columns(path="id", label="breed", folder="small", suffix=".png")
    _, config = write(source, columns=asked)
    assert config.data.columns == asked
    index = open_dataset(config, Stop(), QUIET).index
    assert all(path.startswith("small/") for path in index.splits["train"].paths)


def test_a_flat_folder_with_metadata_needs_no_pattern(tmp_path):
    make_images(tmp_path / "set", {"": 16})
    root, lines = tmp_path / "set", ["file_name,label"]
    for i, path in enumerate(sorted(root.glob("*.png"))):
        path.rename(root / f"{'ab'[i // 8]}_{i}.png")  # the names tell something else
        lines.append(f"{'ab'[i // 8]}_{i}.png,{('red', 'green')[i % 2]}")
    (root / "metadata.csv").write_text("\n".join(lines))
    _, config = write(root)
    assert (config.data.label_pattern, config.data.columns) == (None, None)
    assert open_dataset(config, Stop(), QUIET).index.class_names == ("green", "red")


@pytest.mark.parametrize(("common", "weights"), [(50, "balanced"), (20, "none")])
def test_classes_are_weighted_where_they_are_uneven(tmp_path, common, weights):
    root = make_images(tmp_path / "images", {"common": common, "rare": 10}, size=(8, 8))
    _, config = write(root)
    sections = (config.fit, config.extract_features, config.finetune)
    assert {section.class_weights for section in sections} == {weights}


def test_characters_are_not_mirrored_and_grey_stays_grey(tmp_path):
    for i in range(16):
        values = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        path = tmp_path / "images" / str(i % 2) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    text, config = write(tmp_path / "images")
    assert config.augment.flip == "none"
    assert config.fit.model.grayscale
    assert config.data.image_size == (64, 64)
    assert "They are enlarged" in text


def test_flat_files_get_a_pattern_and_their_classes_are_shown(tmp_path, capsys):
    made = make_images(tmp_path / "made", {"cat": 6, "english_setter": 8})
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in made.rglob("*.png"):
        path.rename(flat / f"{path.parent.name}.{path.stem}.png")
    _, config = write(flat)
    names = ("cat", "english_setter")
    assert open_dataset(config, Stop(), QUIET).index.class_names == names
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("labels"))
    assert "cat (6), english_setter (8)" in row
    assert row.endswith(f"-> label_pattern: {config.data.label_pattern}")


def test_a_pattern_may_be_given(tmp_path):
    days = [f"{day}/{name}" for day in ("2023", "2024") for name in ("cat", "dog")]
    source = make_images(tmp_path / "photos", dict.fromkeys(days, 4))
    with pytest.raises(DataError, match="have the same folders in them") as caught:
        write(source)
    assert "--label '^[^/]+/([^/]+)/'" in caught.value.advice
    text, config = write(source, label="^[^/]+/([^/]+)/")
    assert "label_pattern: " in text
    assert config.data.label_pattern == "^[^/]+/([^/]+)/"
    with pytest.raises(ConfigError, match="--label"):
        write(source, label="(", force=True)


def test_sizes_of_all_kinds_are_one_size(tmp_path):
    make_images(tmp_path / "images", {"red": 5}, size=(2000, 1500))
    make_images(tmp_path / "images", {"green": 9}, size=(300, 260))
    make_images(tmp_path / "images", {"blue": 4}, size=(3, 5))
    _, config = write(tmp_path / "images")
    assert config.data.image_size == (224, 224)


def test_two_hundred_classes(tmp_path):
    root = make_images(tmp_path / "images", {f"kind {i}": 3 for i in range(200)}, size=(8, 8))
    text, config = write(root)
    assert len(open_dataset(config, Stop(), QUIET).index.class_names) == 200
    assert max(map(len, text.splitlines())) < 200


def test_a_config_that_is_there_is_not_touched(image_folder):
    Path("config.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"config\.yaml is there already") as caught:
        write(image_folder)
    assert "--force" in caught.value.advice
    assert Path("config.yaml").read_text() == "mine"
    text, _ = write(image_folder, force=True)
    assert text != "mine"


def test_paths_count_from_the_folder_of_the_config(tmp_path):
    make_images(Path("digits"), {"red": 5, "green": 5})
    output = Path("projects/first/my digits.yaml")
    text, config = write("./digits", output)
    assert Path(config.data.source).resolve() == Path("digits").resolve()
    assert "cvtrain extract-features 'projects/first/my digits.yaml'" in text
    _, config = write("./digits")  # a named set has this name as well
    assert Path(config.data.source) == tmp_path / "here" / "digits"


def test_nothing_to_train_on_is_told_and_nothing_written():
    with pytest.raises(DataError, match="no images"):
        write(".")
    assert not list(Path().iterdir())


# Weights


def test_without_weights_the_config_says_so_loudly(image_folder):
    text, config = write(image_folder)
    assert config.extract_features.backbone.weights == "none"
    assert "NO PRETRAINED WEIGHTS" in text
    assert "mobilenet_2_5_224_tf_no_top.h5" in text


def test_a_file_brings_its_network(image_folder, tmp_path):
    file = tmp_path / "mobilenet_5_0_224_tf_no_top.h5"
    file.write_bytes(b"\x89HDF\r\n\x1a\n")
    _, config = write(image_folder, weights_file=file)
    backbone = config.extract_features.backbone
    assert (backbone.name, backbone.alpha, backbone.weights) == ("mobilenet", 0.5, str(file))


def test_a_file_of_a_network_that_takes_no_small_images(image_folder, tmp_path):
    file = tmp_path / "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
    file.write_bytes(b"\x89HDF\r\n\x1a\n")
    _, config = write(image_folder, weights_file=file)
    assert min(config.data.image_size) >= 75


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.h5", "the architecture is not clear from the file name"),
        ("mobilenet_2_5_224_tf_no_top.h5", "not an HDF5 file"),
        (None, "no such file"),
    ],
)
def test_a_file_of_no_known_network_is_refused(image_folder, tmp_path, name, words):
    file = tmp_path / (name or "missing.h5")
    if name:
        file.write_bytes(b"")
    with pytest.raises(ConfigError, match=words):
        write(image_folder, weights_file=file)


def test_what_keras_has_fetched_is_used_without_a_network(image_folder, tmp_path):
    models = tmp_path / "keras" / "models"
    models.mkdir(parents=True)
    (models / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"")
    _, config = write(image_folder)
    backbone = config.extract_features.backbone
    assert (backbone.name, backbone.alpha, backbone.weights) == ("mobilenet", 1.0, "imagenet")


# Minutes


def test_minutes_and_the_base_come_from_a_process_of_its_own(image_folder, monkeypatch):
    asked = []

    def answer(module, config, bases, *, seconds):
        asked.append((module, json.loads(bases), seconds))
        assert load_config(Path(config))  # is there before anything is measured
        facts = {"device": "cpu: a machine", "backbone": ["efficientnet_v2_b0", None]}
        return facts | {"fit": 600.0, "extract-features": 61.0, "finetune": 7200.0}, ""

    monkeypatch.setattr(init_module, "problem_fetching", lambda _address: "")
    monkeypatch.setattr(init_module, "run_json_subprocess", answer)
    text, config = write(image_folder, estimate=True)
    assert len(asked[0][1]) > 1
    assert config.extract_features.backbone.name == "efficientnet_v2_b0"
    for minutes in ("about 10 min", "about 61 s", "about 2 h 00 min", "on cpu: a machine"):
        assert minutes in text


def test_what_was_not_measured_in_time_is_named(image_folder, monkeypatch):
    facts = {"device": "cpu: a machine", "fit": 600.0}
    monkeypatch.setattr(
        init_module,
        "run_json_subprocess",
        lambda *_args, **_kwargs: (facts, "it took more than 90 s"),
    )
    text, _ = write(image_folder, estimate=True)
    words = " ".join(text.replace("#", "").split())
    assert "minutes of extract-features, finetune, visualize were" not in words
    assert "minutes of extract-features, finetune were not measured: it took more" in words


def test_without_an_engine_there_is_a_config(image_folder, monkeypatch):
    monkeypatch.setattr(
        init_module, "run_json_subprocess", lambda *_args, **_kwargs: ({}, "ImportError: no engine")
    )
    text, _ = write(image_folder, estimate=True)
    words = " ".join(text.replace("#", "").split())
    assert (
        "minutes of fit, extract-features, finetune were not measured: ImportError: no engine"
        in words
    )


def test_the_engine_is_not_imported(image_folder):
    code = (
        "import sys; from pathlib import Path\n"
        "from cvtrain.system.console import Console\n"
        "from cvtrain.commands import init as module\n"
        "module.problem_fetching = lambda _address: 'no network'\n"
        "options = {'weights_file': None, 'force': False, 'estimate': False}\n"
        f"module.init({str(image_folder)!r}, Path('c.yaml'), console=Console(True), **options)\n"
        "print({'tensorflow', 'keras', 'matplotlib', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.slow
def test_the_four_lines_work_in_sequence(tmp_path):
    """From a messy folder without splits, by typing what `init` prints."""
    root = make_images(tmp_path / "photos", {"red": 12, "green": 12, "a # b": 30, "rare": 1})
    (root / "red/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    (root / "green/copy.png").write_bytes((root / "green/000.png").read_bytes())
    told, _ = run_all({"init": ["init", str(root)]}, Path.cwd())
    assert told["init"].code == 0, told["init"].err
    text = Path("config.yaml").read_text()
    # A time for each stage, or why not: a busy machine may take longer than `init` waits.
    words = " ".join(text.replace("#", "").split())
    assert words.count("; about ") == 3 or "were not measured: it took more than" in words
    printed = told["init"].out.split("Next:\n")[1].split("  cvtrain ")[1:]
    lines = [line.split("  ")[0].split() for line in printed]
    stages = {"fit": "fit", "extract-features": "extract_features", "finetune": "finetune"}
    assert [command for command, *_ in lines] == [*stages, "visualize"]
    for line in lines:
        if stage := stages.get(line[0]):
            line += ["--set", f"{stage}.epochs=2", "--set", "precision=float32"]
    told, _ = run_all({" ".join(line): line for line in lines}, Path.cwd())
    assert {line: each.err for line, each in told.items() if each.code} == {}
    runs = [json.loads(path.read_text()) for path in sorted(Path("runs").glob("*/run.json"))]
    assert [run["command"] for run in runs] == ["fit", "extract-features", "finetune"]
    assert all(run["class_names"] == ["a # b", "green", "red"] for run in runs)
