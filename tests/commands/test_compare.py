"""Runs side by side: paired tests against their closed form, what differs, the page."""

import csv
import json
import math
import re
import subprocess
import sys

import pytest
from run_folders import make_run
from sklearn.metrics import accuracy_score, f1_score
from web_pages import HOSTILE, Opened, Parsed, Tables

from cvtrain.commands.compare import all_pairs, compare, open_runs, render_comparison
from cvtrain.errors import ConfigError, RunError
from cvtrain.runs.run import Run, begun
from cvtrain.system.console import Console


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return [
        make_run(folder / "slow", seed=0, sharpness=2),
        make_run(folder / "fast", seed=1, sharpness=6, rate=1e-2, epochs=4),
        make_run(folder / "head", seed=2, command="extract-features", epochs=0, sharpness=4),
    ]


def page_of(runs):
    contenders = open_runs(runs)
    return render_comparison(contenders, all_pairs(contenders))


def table(run):
    """Labels, predictions of a run, by the CSV alone."""
    with (run.path / "predictions-test.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    return [row["label"] for row in rows], [row["prediction"] for row in rows]


def percent(value):
    return f"{100 * value:.1f} %"


def test_accuracy_of_each(runs):
    rows = Tables(page_of(runs))["Runs"]
    assert [row[0] for row in rows] == ["slow", "fast", "head"]
    assert [row[2] for row in rows] == [percent(accuracy_score(*table(run))) for run in runs]


def test_paired_tests_are_those_of_the_binomial(runs):
    rows = Tables(page_of(runs))["Paired tests"]
    expected = []
    for i, one in enumerate(runs):
        for other in runs[i + 1 :]:
            labels, said = table(one)
            _, said_by_other = table(other)
            three = list(zip(labels, said, said_by_other, strict=True))
            first = sum(a == true != b for true, a, b in three)
            second = sum(b == true != a for true, a, b in three)
            n, k = first + second, min(first, second)
            tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
            same = percent(sum(a == b for _, a, b in three) / len(three))
            p = f"{min(1, 2 * tail):.2g}" if tail >= 0.0005 else "< 0.001"
            expected.append([one.path.name, other.path.name, str(first), str(second), p, same])
    assert rows == expected


def test_the_best_two_are_compared_in_words(runs):
    text = page_of(runs)
    scores = {run.path.name: accuracy_score(*table(run)) for run in runs}
    best, second, _ = sorted(scores, key=scores.get, reverse=True)
    assert re.search(f"<bdi>Only {best} is correct on \\d+ images, only {second} on", text)


def test_scores_by_class(runs):
    rows = Tables(page_of(runs))["F1 by class"]
    names = runs[0].content["class_names"]
    columns = [f1_score(*table(run), labels=names, average=None) for run in runs]
    for name, row, *scores in zip(names, rows, *columns, strict=True):
        assert row == [name, *(f"{score:.3f}" for score in scores)]


def test_curves_lie_over_each_other_and_end_where_they_end(runs):
    page = page_of(runs)
    rows = Tables(page)["Curves as a table"]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [row[1:] for row in rows][3:] == [["77.5 %", "77.5 %"], ["80.0 %", ""], ["81.7 %", ""]]
    texts = [image["alt"] for image in Parsed(page).find("img")]
    assert texts == [
        "Validation loss by epoch: slow from 2.100 to 0.350; fast from 2.100 to 0.525.",
        "Validation accuracy by epoch: slow from 40.0% to 81.7%; fast from 40.0% to 77.5%.",
    ]


def test_only_what_differs_in_the_configs(runs):
    rows = Tables(page_of(runs[:2]))["What differs in the configs"]
    assert rows == [["fit.epochs", "6", "4"], ["fit.optimizer.learning_rate", "0.001", "0.01"]]
    assert "Nothing: the configs are the same" in page_of([runs[0], copy_of(runs[0], "again")])


def copy_of(run, name, **fields):
    import shutil

    path = run.path.with_name(name)
    shutil.copytree(run.path, path, dirs_exist_ok=True)
    copied = Run.open(path)
    copied.update(**fields)
    return copied


def test_a_run_against_itself_differs_in_nothing(runs):
    (pair,) = all_pairs(open_runs([runs[0], copy_of(runs[0], "again")])).values()
    assert (pair.only_first, pair.only_second, pair.p, pair.agreement) == (0, 0, 1.0, 1.0)


def test_the_order_of_images_and_classes_does_not_matter(runs, tmp_path):
    names = ["owl", "cat", "dog"]
    files = [f"test/{name}/{i:03d}.png" for i, name in enumerate(["cat", "dog", "owl"] * 20)]
    order = [2, 0, 1] * 20  # labels of make_run go owl, cat, dog
    files = [files[i - i % 3 + place] for i, place in enumerate(order)]
    other = make_run(tmp_path / "other", class_names=names, files=files, images=False)
    (pair,) = all_pairs(open_runs([runs[0], other])).values()
    said = dict(zip(*columns_of(other), strict=True))
    mine = dict(zip(*columns_of(runs[0]), strict=True))
    assert pair.agreement == sum(said[file] == mine[file] for file in mine) / 60


def columns_of(run):
    with (run.path / "predictions-test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["file"] for row in rows], [row["prediction"] for row in rows]


def test_other_test_images_are_told_and_not_paired(runs, tmp_path, capsys):
    other = make_run(tmp_path / "march", num_test=30)
    page = page_of([runs[0], other])
    assert "Paired tests" not in Tables(page).tables
    assert "Not compared, because their test images or labels differ" in page
    compare([runs[0], other], output=tmp_path / "x.html", console=Console())
    out, err = capsys.readouterr()
    assert "not compared with slow, because the test images or labels differ: march" in err
    assert "McNemar" not in out


@pytest.mark.parametrize("alone", [True, False])
def test_no_winner_where_some_were_tested_on_other_images(runs, tmp_path, alone):
    other = make_run(tmp_path / "march", num_test=30, sharpness=9)
    page = page_of([runs[0], other] if alone else [*runs, other])
    assert "The runs cannot be ranked, because their test images or labels differ" in page
    assert "has the highest test accuracy" not in page
    assert "is bold" not in page
    by_class = page.partition('aria-label="F1 by class"')[2].partition("</table>")[0]
    assert "<strong>" not in by_class
    assert "is correct on" not in page


def test_a_ladder_stands_for_its_rungs(runs, tmp_path):
    ladder = tmp_path / "ladder"
    for name in ("scratch", "features"):
        make_run(ladder / name)
    run = Run(ladder, begun("ladder") | {"status": "finished"})
    run.update(rungs=[{"run": "scratch"}, {"run": "features"}])
    names = [one.name for one in open_runs([Run.open(ladder), runs[0]])]
    assert names == ["scratch", "features", "slow"]


def test_names_tell_runs_apart(tmp_path):
    runs = [make_run(tmp_path / folder / "fit") for folder in ("a", "b")]
    assert [one.name for one in open_runs(runs)] == ["a/fit", "b/fit"]
    with pytest.raises(ConfigError, match="is named twice"):
        open_runs([runs[0], runs[0]])


def test_refusals(runs, tmp_path):
    with pytest.raises(ConfigError, match="at least two runs; received 1"):
        compare(runs[:1], output=tmp_path / "x.html", console=Console())
    probe = copy_of(runs[0], "probe", command="probe")
    with pytest.raises(RunError, match="a run of probe has no predictions"):
        compare([runs[0], probe], output=tmp_path / "x.html", console=Console())
    ladder = copy_of(runs[0], "ladder", command="ladder")
    (ladder.path / "run.json").write_text(json.dumps(ladder.content | {"rungs": [{}]}))
    with pytest.raises(RunError, match=r"rungs\.0\.run"):
        Run.open(ladder.path)
    assert not list(tmp_path.iterdir())


def test_command_prints_a_table_and_loads_no_engine(runs, tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "cvtrain", "compare"]
    paths = [run.path for run in runs]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("run\taccuracy\t95 % interval\tp\tagreement")
    assert lines[2].split("\t")[:2] == ["fast", f"{accuracy_score(*table(runs[1])):.4f}"]
    assert lines[-1] == "written to compare.html"
    assert [path.name for path in tmp_path.iterdir()] == ["compare.html"]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "cvtrain.commands.compare" in loaded
    assert not loaded & {"tensorflow", "keras", "jax", "torch"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    runs = [make_run(folder / "a<b>&'\"", class_names=HOSTILE, num_test=44, images=False, seed=1)]
    runs.append(make_run(folder / ("w" * 200), class_names=HOSTILE, num_test=44, images=False))
    for i, run in enumerate(runs):
        path = run.path / "config.yaml"
        path.write_text(path.read_text() + f"x: [{'w' * 300}{i}, '<script>']\n")
    return page_of(runs)


def test_names_are_text_and_nothing_else(runs, hostile):
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e\ud800-\udfff]", hostile)
    parsed = Parsed(hostile)
    assert [len(parsed.find(tag)) for tag in ("style", "script")] == [1, 0]
    assert {tag for tag, _ in parsed.elements} <= {tag for tag, _ in Parsed(page_of(runs)).elements}
    assert not re.search(r"https?:|url\(|@import", page_of(runs))


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(browser, sized, tmp_path, hostile, width):
    sized(width)
    opened = Opened(browser, tmp_path / "compare.html", hostile)
    assert opened.run("document.documentElement.scrollWidth") <= width
    opened.click("summary")
    assert opened.run("document.querySelector('details').open")
    assert opened.run("window.pwned") is None
    assert opened.log() == []
    assert opened.requests() == [opened.uri]


@pytest.fixture
def sized(browser):
    """Set how wide the window is, in pixels, and whether it shows what would be printed."""

    def size(width, *, media="screen"):
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})

    yield size
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


BROKEN_WORDS = """
[...document.querySelectorAll("thead th:not(:has(bdi))")].flatMap((heading) => {
    const text = heading.firstChild, range = new Range();
    return [...text.data.matchAll(/\\S+/g)].filter((word) => {
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        return range.getClientRects().length > 1;
    }).map(String);
})
"""

BEYOND_THE_PAGE = """
[...document.querySelectorAll("th, td")]
    .filter((cell) => cell.getClientRects().length)
    .filter((cell) => {
        const range = new Range();
        range.selectNodeContents(cell);
        return range.getBoundingClientRect().right > innerWidth;
    }).map((cell) => cell.textContent)
"""


@pytest.mark.parametrize("width", [390, 700, 1280])
def test_headings_wrap_between_words_only(browser, sized, tmp_path, hostile, runs, width):
    sized(width)
    for page in (page_of(runs), hostile):
        opened = Opened(browser, tmp_path / "compare.html", page)
        opened.run("document.querySelector('details').open = true")
        assert opened.run(BROKEN_WORDS.strip()) == []


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    names = [f"20260101-1200{i:02d}-extract-features-config" for i in range(12)]
    return [
        make_run(folder / name, seed=i, rate=(i + 1) * 1.2345e-5, images=False)
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize("num_runs", [2, 6, 7, 12])
def test_paper_shows_every_run(browser, sized, tmp_path, many, num_runs):
    a4_between_margins = 673
    sized(a4_between_margins, media="print")
    opened = Opened(browser, tmp_path / "compare.html", page_of(many[:num_runs]))
    opened.run("document.querySelector('details').open = true")
    assert opened.run(BEYOND_THE_PAGE.strip()) == []
    assert opened.run(BROKEN_WORDS.strip()) == []
    assert opened.run("document.documentElement.scrollWidth") <= a4_between_margins
    config = opened.run("document.querySelector('[aria-labelledby=config]').innerText")
    assert config.count("1.2345e-05") == 1
    named = opened.run(
        "getComputedStyle(document.querySelector('td[data-run]'), '::before').content"
    )
    assert (named != "none") == (num_runs > 6)


def test_paper_has_room_for_hostile_names(browser, sized, tmp_path, hostile):
    sized(673, media="print")
    opened = Opened(browser, tmp_path / "compare.html", hostile)
    assert opened.run(BEYOND_THE_PAGE.strip()) == []
