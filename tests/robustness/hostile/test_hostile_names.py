"""Names of files and classes that mean harm, through every command that shows or writes names."""

import csv
import json
import re
from collections import Counter

import numpy as np
import pytest
from hostile_names import CLASSES, NAMES
from keras_archives import SHAPE, archive
from PIL import Image
from run_folders import make_run
from tiny_images import make_images
from watched import Case, Sandbox
from web_pages import Parsed

from cvtrain.system.text import csv_cell, escape

CONFIG = """
data: {source: photos, image_size: [16, 20], on_bad: skip}
fit:
  epochs: 1
  batch_size: 8
  model: {filters: [4], dense: []}
precision: float32
"""
FILES = [name for key, name in NAMES.items() if key != "dots"]  # with a suffix it is hidden
_NUMBER = re.compile(r"-?\d*\.?\d+(e[-+]?\d+)?")


def photograph(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (*SHAPE[:2], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


class Shown:
    """A sandbox in which everything with a hostile name has been looked at."""

    def __init__(self, path):
        sandbox = Sandbox(path)
        self.inside = here = sandbox.inside
        classes = [CLASSES[key] for key in ("element", "formula", "template")]
        counts = {"train": 8, "validation": 4, "test": 1}
        make_images(
            here / "photos", {f"{s}/{name}": n for s, n in counts.items() for name in classes}
        )
        for i, name in enumerate(FILES):
            photograph(here / "photos" / "test" / classes[i % 3] / f"{name}.png", seed=i)
        (here / "config.yaml").write_text(CONFIG)
        # A class has any of the names, as in the run of a stranger.
        names = tuple(NAMES.values())
        files = [f"test/{name}/{i}.png" for i in range(2) for name in NAMES.values()]
        self.by_hand = {
            "hostile": {"class_names": names, "files": files},
            "ordinary": {
                "class_names": tuple(f"class {i}" for i in range(len(names))),
                "files": [f"test/class/{i}.png" for i in range(len(files))],
            },
        }
        for name, settings in self.by_hand.items():
            run = make_run(here / name, num_test=len(files), images=False, **settings)
            run.model_path.write_bytes(b"")
        refused = []
        for key in NAMES.keys() - CLASSES.keys() - {"dots"}:
            make_images(here / "refused" / key, {NAMES[key]: 3, "dog": 3})
            refused.append(Case(f"class {key}", here, ["data", "check", f"refused/{key}"]))
        commands = {
            "check": "data check photos",
            "stats": "data stats photos --output stats",
            "fit": "fit config.yaml --run-dir run",
            "evaluate": "evaluate run",
            "report": "report run",
            "visualize": "visualize run --method gradcam",
            "predict": "predict run photos/test",
            "predict as CSV": "predict run photos/test --output said.csv",
            "predict as JSON": "predict run photos/test --output said.json",
            "calibrate": "calibrate run",
            "report by hand": "report hostile",
            "report ordinary": "report ordinary",
            "compare": "compare hostile run --output hostile.html",
            "compare ordinary": "compare ordinary run --output ordinary.html",
            "calibrate by hand": "calibrate hostile --coverage 0.9",
        }
        cases = [Case(name, here, arguments.split()) for name, arguments in commands.items()]
        warm = sandbox.path / "warm"
        archive(make_run(warm / "run", image_size=SHAPE[:2], num_test=6).model_path)
        warm_up = [
            Case("", warm, ["predict", "run", "images"]),
            Case("", warm, ["calibrate", "run"]),
        ]
        self.before = sandbox.snapshot()
        self.watched = sandbox.watch(warm_up, [*cases, *refused])
        self.after = sandbox.snapshot()
        self.outcomes = self.watched.outcomes

    def pages(self):
        return sorted(self.inside.rglob("*.html"))

    def tables(self):
        return sorted(self.inside.rglob("*.csv"))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return Shown(tmp_path_factory.mktemp("names"))


def test_every_command_ends_as_it_should(shown):
    bad = {name for name in NAMES.values() if not _is_utf8(name)}
    assert len(bad) == 2
    for name, outcome in shown.outcomes.items():
        # Two files have names that are not UTF-8: the check names them, prediction does not mind.
        expected = (3,) if name == "check" or name.startswith("class ") else (0,)
        assert outcome.code in expected, f"{name}: {outcome.told}"
        assert "Traceback" not in outcome.told


def test_a_terminal_is_told_nothing_but_text(shown):
    for name, outcome in shown.outcomes.items():
        for stream in (outcome.out, outcome.err):
            text = stream.decode("utf-8")
            assert text.translate({10: None, 9: None}).isprintable(), name
    # Names are there, escaped: they are not left out.
    told = shown.outcomes["predict"].out.decode()
    for key in ("colour", "right to left", "markup", "emoji code", "not UTF-8"):
        assert escape(NAMES[key]) in told, key


def test_no_cell_of_a_table_is_a_formula(shown):
    assert len(shown.tables()) >= 8
    for path in shown.tables():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                for cell in row:
                    assert cell.isprintable(), f"{path}: {cell!r}"
                    is_safe = not cell.startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))
                    assert is_safe or _NUMBER.fullmatch(cell), f"{path}: {cell}"
    with (shown.inside / "said.csv").open(encoding="utf-8", newline="") as file:
        said = {row["file"] for row in csv.DictReader(file)}
    for name in FILES:
        assert any(file.endswith(escape(f"/{name}.png")) for file in said), name
    assert csv_cell(NAMES["minus"]).startswith("'-")


def test_no_element_of_a_page_comes_from_a_name(shown):
    pairs = (("hostile/report.html", "ordinary/report.html"), ("hostile.html", "ordinary.html"))
    for hostile, ordinary in pairs:
        assert _structure(shown.inside / hostile) == _structure(shown.inside / ordinary)
    pages = shown.pages()
    assert len(pages) >= 6
    for path in pages:
        page = Parsed(path.read_text("utf-8"))
        (policy,) = (each for each in page.find("meta") if "http-equiv" in each)
        assert policy["http-equiv"] == "Content-Security-Policy"
        assert "default-src 'none'" in policy["content"]
        assert Counter(tag for tag, _ in page.elements)["script"] <= 1
        for tag, attributes in page.elements:
            assert not any(name.startswith("on") for name in attributes), path
            for name in ("src", "href", "action", "xlink:href"):
                value = attributes.get(name) or "#"
                is_icon = attributes.get("rel") == "icon" and value == "data:,"
                assert value.startswith(("#", "data:image/")) or is_icon, path
            assert tag.isalnum(), path
        assert path.read_text("utf-8").replace("\n", "").isprintable()


def test_json_keeps_the_names(shown):
    said = json.loads((shown.inside / "said.json").read_text("utf-8"))
    files = {entry["file"].rpartition("/")[2] for entry in said}
    assert {f"{name}.png" for name in FILES} <= files
    for path in shown.inside.rglob("*.json"):
        json.loads(path.read_bytes())
    record = json.loads((shown.inside / "run" / "run.json").read_bytes())
    assert set(record["class_names"]) == {CLASSES[k] for k in ("element", "formula", "template")}


def test_nothing_is_written_where_a_name_says(shown):
    known = {"photos", "refused", "run", "hostile", "ordinary", "stats", "images"}
    known |= {"config.yaml", "said.csv", "said.json", "hostile.html", "ordinary.html", "runs"}
    assert {path.name for path in shown.inside.iterdir()} <= known
    for folder in ("run", "hostile", "stats"):
        for path in (shown.inside / folder).rglob("*"):
            assert re.fullmatch(r"[A-Za-z0-9._-]{1,100}", path.name), path
    assert shown.after == shown.before
    assert {name: each.events for name, each in shown.outcomes.items() if each.events} == {}
    assert not shown.watched.traced


def _is_utf8(name):
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _structure(path):
    """Every element of a page with the names of its attributes, in order."""
    elements = Parsed(path.read_text("utf-8")).elements
    return [(tag, tuple(attributes)) for tag, attributes in elements]
