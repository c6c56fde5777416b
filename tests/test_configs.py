"""Every recipe is valid, says how to run it, and runs."""

import math
import re
from pathlib import Path

import pytest

from cvtrain.commands.extract_features import extract_features
from cvtrain.commands.finetune import finetune
from cvtrain.commands.fit import fit
from cvtrain.config import load_config
from cvtrain.runs.run import RunRequest
from cvtrain.steps.network import build_network
from cvtrain.system.console import Console

FOLDER = Path(__file__).parents[1] / "configs"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_recipes():
    assert {
        "digits",
        "mnist",
        "scratch",
        "augmented",
        "vgg16",
        "clothing-mobilenet",
        "digits-transfer",
    } <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_header_says_the_command(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    commands = "fit|extract-features|ladder"
    assert re.search(rf"cvtrain ({commands}) configs/{path.name}", " ".join(header))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_header_says_what_was_measured(path):
    """Minutes and accuracy, or that nobody has had the weights to measure them."""
    lines = path.read_text().splitlines()
    header = " ".join(line.strip("# ") for line in lines if line.startswith("#"))
    figures = r"Measured on two cores.*(second|minute).*test accuracy [01]\.\d{3}"
    assert re.search(figures, header) or "Neither minutes nor accuracy were measured" in header


@pytest.fixture
def _two_steps(monkeypatch):
    monkeypatch.setenv("KERAS_MAX_EPOCHS", "1")
    monkeypatch.setenv("KERAS_MAX_STEPS_PER_EPOCH", "2")


def overrides(path, image_folder):
    """What lets a recipe run on the tiny images, in a moment."""
    sections = [
        name for name in ("fit", "extract_features", "finetune") if name in path.read_text()
    ]
    views = ["extract_features.views=2"] if "extract_features" in sections else []
    return [
        f"data={{source: {image_folder}, image_size: {load_config(path).data.image_size[0]}}}",
        "precision=float32",
        *(f"{section}.batch_size=4" for section in sections),
        *views,
    ]


def of_command(section):
    found = [path for path in RECIPES if f"\n{section}:" in path.read_text()]
    return pytest.mark.parametrize("path", found, ids=lambda path: path.stem)


@pytest.mark.slow
@of_command("fit")
@pytest.mark.usefixtures("_two_steps", "no_figures")
def test_it_runs_for_a_step_or_two(path, tmp_path, image_folder):
    config = load_config(path, overrides(path, image_folder))
    run = fit(config, RunRequest(tmp_path / "run", path.stem), Console(quiet=True))
    assert run.content["status"] == "finished"
    assert run.content["metrics"]["test"]["num_images"] == 15


@pytest.mark.slow
@of_command("extract_features")
@pytest.mark.usefixtures("_two_steps", "no_figures")
def test_its_base_runs_for_a_step_or_two(path, tmp_path, image_folder):
    """With random weights: those of ImageNet cannot be fetched in a test."""
    base = load_config(path).extract_features.backbone
    name = base.name or "mobilenet"
    cut = base.cut if base.name else "conv_pw_3"
    settings = overrides(path, image_folder)
    settings.append(f"extract_features.backbone={{name: {name}, weights: none, cut: {cut}}}")
    settings.append("data.image_size=64")
    config = load_config(path, [text.replace("cut: None", "cut: null") for text in settings])
    console = Console(quiet=True)
    source = extract_features(config, RunRequest(tmp_path / "features", path.stem), console)
    run = finetune(config, RunRequest(tmp_path / "tuned", path.stem), console, source=source)
    assert run.content["status"] == "finished"
    assert sum(layer["trained"] for layer in run.content["freeze_proof"].values()) >= 2


@pytest.mark.parametrize(
    ("recipe", "num_classes", "trainable"),
    [
        ("mnist", 10, 93_322),  # the book's figure, 5.1
        # The book's 3,453,121 (5.2) end in one sigmoid: 513 weights a class, one class less.
        ("scratch", 2, 3_453_121 + 513),
        ("augmented", 2, 3_453_121 + 513),
        # The second edition's 991,041 (8.2), the same way: 7 * 7 * 256 + 1 weights a class.
        ("scratch-2e", 2, 991_041 + 12_545),
        ("augmented-2e", 2, 991_041 + 12_545),
    ],
)
def test_the_books_nets_have_the_books_number_of_parameters(recipe, num_classes, trainable):
    config = load_config(FOLDER / f"{recipe}.yaml")
    model = build_network(config, num_classes, "float32")
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == trainable
