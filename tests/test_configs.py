"""Every recipe is valid, says how to run it, and runs."""

import math
from pathlib import Path

import pytest

from cvtrain.config import load_config
from cvtrain.console import Console
from cvtrain.models.convnet import build_convnet
from cvtrain.pipelines.fit import fit

FOLDER = Path(__file__).parents[1] / "configs"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_recipes():
    assert {"digits", "mnist", "scratch", "augmented"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_header_says_the_command(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert f"cvtrain fit configs/{path.name}" in " ".join(header)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_runs_for_a_step_or_two(path, tmp_path, image_folder, monkeypatch):
    monkeypatch.setenv("KERAS_MAX_EPOCHS", "1")
    monkeypatch.setenv("KERAS_MAX_STEPS_PER_EPOCH", "2")
    overrides = [f"data.source={image_folder}", "precision=float32", "fit.batch_size=4"]
    config = load_config(path, overrides)
    run = fit(config, tmp_path / "run", name=path.stem, resume=False, console=Console(quiet=True))
    assert run.record["status"] == "finished"
    assert run.record["metrics"]["test"]["num_images"] == 15


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
    settings = config.fit.model.model_dump(exclude={"name"})
    model = build_convnet(image_size=config.data.image_size, num_classes=num_classes, **settings)
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == trainable
