"""Which images and classes are looked at: balanced, seeded, and told when there are none."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cvtrain.data.index import Split
from cvtrain.errors import DataError, RunError
from cvtrain.images.decode import Decoder
from cvtrain.runs.predictions import predictions_csv
from cvtrain.runs.run import Run
from cvtrain.steps.inspected_model import (
    ImageReader,
    ImageRef,
    from_every_class,
    named_images,
    right_and_wrong,
)
from cvtrain.system.console import Console
from cvtrain.system.files import commit_json, commit_text

QUIET = Console(quiet=True)
NAMES = ["cat", "dog", "emu", "fox"]


@pytest.fixture
def make_run(tmp_path):
    """make_run({class: [predicted class of each of its test images]}) -> Run, without a model."""

    def make(found):
        run = Run.create(tmp_path / "run", "fit")
        run.update(class_names=NAMES, data={"root": str(tmp_path / "photos")})
        paths = {
            name: [f"{name}/{i}.jpg" for i in range(len(found[name]))]
            for name in NAMES
            if found.get(name)
        }
        commit_json(run.path / "split.json", {"train": {}, "validation": {}, "test": paths})
        files = [(name, path) for name in paths for path in paths[name]]
        split = Split(
            tuple(path for _, path in files),
            np.array([NAMES.index(name) for name, _ in files], np.int32),
        )
        predicted = [prediction for name in paths for prediction in found[name]]
        probabilities = [[0.7 if n == p else 0.1 for n in NAMES] for p in predicted]
        text = predictions_csv(split, np.array(probabilities, np.float32), NAMES)
        commit_text(run.path / "predictions-test.csv", text)
        return run

    return make


def of(images):
    """The class and the file of each image."""
    return [(NAMES[wanted.true], wanted.name) for wanted in images.wanted]


# Of every class ten right ones and ten that were taken for the next class; fox has one mistake.
MANY = {a: [a] * 10 + [b] * 10 for a, b in zip(NAMES, [*NAMES[1:], "cat"], strict=True)}
MANY["fox"] = ["fox"] * 19 + ["cat"]


def test_half_are_mistakes_and_come_first_spread_over_the_classes(make_run, tmp_path):
    run = make_run(MANY)
    images = right_and_wrong(run, 12, 0, QUIET)
    found = [(true, MANY[true][int(name[4:-4])]) for true, name in of(images)]
    mistakes = [true != predicted for true, predicted in found]
    assert mistakes == [True] * 6 + [False] * 6
    # The one mistake of fox is among six, because classes take turns.
    counts = Counter(true for true, _ in found[:6])
    assert sorted(counts.values()) == [1, 1, 2, 2]
    assert counts["fox"] == 1
    assert sorted(Counter(true for true, _ in found[6:]).values()) == [1, 1, 2, 2]
    assert len(set(of(images))) == 12
    assert images.wanted[0].path == tmp_path / "photos" / images.wanted[0].name


def test_the_sample_is_drawn_by_the_seed(make_run):
    run = make_run(MANY)
    first, again, other = (of(right_and_wrong(run, 12, seed, QUIET)) for seed in (0, 0, 1))
    assert first == again
    assert set(first) != set(other)


@pytest.mark.parametrize(
    ("right", "wrong", "number", "mistakes"),
    [(20, 2, 10, 2), (20, 0, 10, 0), (2, 20, 10, 8), (3, 3, 10, 3), (20, 20, 1, 0)],
)
def test_what_there_is_too_little_of_makes_room(make_run, right, wrong, number, mistakes):
    run = make_run({"cat": ["cat"] * right + ["dog"] * wrong})
    found = [
        int(wanted.name[4:-4]) >= right for wanted in right_and_wrong(run, number, 0, QUIET).wanted
    ]
    assert len(found) == min(number, right + wrong)
    assert sum(found) == mistakes


def test_without_usable_predictions_a_person_has_to_name_images(make_run):
    run = make_run(MANY)
    path = run.path / "predictions-test.csv"
    lines = path.read_text().splitlines(keepends=True)
    for content in (
        "",
        "".join(lines[:-1]),
        "".join(lines).replace("0.699999988", "x"),
        "\n\n",
        None,
    ):
        path.write_text(content) if content is not None else path.unlink()
        with pytest.raises(RunError, match="cannot be used") as caught:
            right_and_wrong(run, 4, 0, QUIET)
        assert "photos/" in caught.value.advice


def test_each_class_has_at_least_two_to_be_compared(make_run):
    run = make_run(MANY | {"emu": ["emu"]})
    counts = Counter(true for true, _ in of(from_every_class(run, 30, 0, QUIET)))
    assert counts == {"cat": 10, "dog": 10, "fox": 10}
    counts = Counter(true for true, _ in of(from_every_class(run, 3, 0, QUIET)))
    assert counts == {"cat": 2, "dog": 2, "fox": 2}


def test_what_is_named_and_not_there_is_told_and_stops_nothing(tmp_path, capsys):
    pixels = np.zeros((4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a\x1b[31m.png")
    (tmp_path / "empty").mkdir()
    names = [f"{tmp_path}/{name}" for name in ("*.png", "*.jpg", "empty", "nothing")]
    images = named_images(names, QUIET)
    assert [wanted.name for wanted in images.wanted] == [f"{tmp_path}/a\x1b[31m.png"]
    assert list(images.unreadable) == names[1:]
    warnings = capsys.readouterr().err
    assert "nothing: no such file" in warnings
    assert "\x1b[31m" not in warnings


def test_a_photograph_beyond_the_limit_is_as_large_as_it_can_be_decoded(tmp_path):
    gradient = Image.linear_gradient("L").resize((9000, 6000))
    gradient.save(tmp_path / "large.jpg")
    images = ImageReader([ImageRef(tmp_path / "large.jpg", "large.jpg")], {}, QUIET)
    (image,) = images.decoded(SimpleNamespace(decoder=Decoder((8, 8))))
    original = image.original()
    assert (image.size, original.shape) == ((6000, 9000), (3000, 4500, 3))
    half = np.asarray(gradient.resize((4500, 3000), Image.Resampling.BOX)).astype(int)
    assert abs(half - original[..., 0]).max() <= 2


def test_nothing_that_can_be_read_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    images = named_images([str(tmp_path)], QUIET)
    with pytest.raises(DataError, match="no readable image"):
        list(images.decoded(SimpleNamespace(decoder=Decoder((4, 4)))))
    assert list(images.unreadable) == [str(tmp_path / "a.png")]
