"""A learning curve: nested subsets, scikit-learn's accuracies, a forecast, and going on."""

import csv
import itertools
import re
import shutil
from collections import Counter

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cvtrain.commands import learning_curve as pipeline
from cvtrain.commands.learning_curve import conclude, learning_curve
from cvtrain.errors import ConfigError, DataError, RunError, Stopped
from cvtrain.models.backbones import build_backbone
from cvtrain.runs.run import Run
from cvtrain.system.console import Console
from cvtrain.training.linear_probe import out_of_fold

CONFIG = """
seed: 3
precision: float32
data: {{source: {source}, image_size: 32}}
extract_features: {{backbone: {{name: mobilenet, alpha: 0.25, weights: none, cut: conv_pw_3}}}}
learning_curve: {{shares: [0.2, 0.4, 0.7, 1], seeds: 2}}
"""


@pytest.fixture(scope="module")
def start(starter):
    return starter(learning_curve, CONFIG)


@pytest.fixture(scope="module")
def measured(start, tmp_path_factory):
    return start(tmp_path_factory.mktemp("runs") / "curve")


def test_the_run_folder_is_complete_and_has_no_model(measured):
    names = {str(p.relative_to(measured.path)) for p in measured.path.rglob("*") if p.is_file()}
    assert {"run.json", "config.yaml", "learning_curve.csv", "correct.npy"} <= names
    assert "figures/learning_curve.png" in names
    record = Run.open(measured.path).content
    assert (record["command"], record["status"]) == ("learning-curve", "finished")
    assert {"data", "import", "extract", "classify", "draw"} <= set(record["seconds"])
    assert "model.keras" not in names


def test_every_share_has_its_subsets_and_all_images_are_one(measured):
    points = [(p["share"], p["seed"], p["num_images"]) for p in measured.content["points"]]
    assert points == [
        *[(0.2, 3, 6), (0.2, 4, 6), (0.4, 3, 15), (0.4, 4, 15), (0.7, 3, 24), (0.7, 4, 24)],
        (1, 3, 36),
    ]


def test_subsets_are_nested_and_have_their_share_of_every_class(start, tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(
        pipeline, "measure", lambda session: (found.extend(pipeline.subsets(session)), None)
    )
    monkeypatch.setattr(pipeline, "conclude", lambda *_, **__: pytest.fail("seen enough"))
    with pytest.raises(pytest.fail.Exception, match="seen enough"):
        start(tmp_path / "run")
    for seed in (3, 4):
        of_seed = [set(places.tolist()) for _, own, places in found if own == seed]
        assert all(small < large for small, large in itertools.pairwise(of_seed))
    for _, _, places in found:
        counts = np.bincount(np.arange(36)[places] // 12)
        assert len(set(counts.tolist())) == 1
    assert set(found[0][2].tolist()) != set(found[1][2].tolist())


def test_subsets_have_images_with_their_copies_which_share_a_fold(
    start, image_folder, tmp_path, monkeypatch
):
    twice = shutil.copytree(image_folder, tmp_path / "twice")
    for path in sorted((twice / "train").rglob("*.png")):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    jobs, groups = [], []

    def classify(_, others, **options):
        groups.append(options["groups"])
        return np.zeros((len(others), 3))

    subsets = pipeline.subsets
    monkeypatch.setattr(
        pipeline, "subsets", lambda session: jobs.append(session) or subsets(session)
    )
    monkeypatch.setattr(pipeline, "held_out", classify)
    start(tmp_path / "run", f"data.source={twice}")
    paths = jobs[0].dataset.index.splits["train"].paths
    for (_, _, places), names in zip(subsets(jobs[0]), groups, strict=True):
        images = [paths[place].replace("copy of ", "") for place in places]
        assert set(Counter(images).values()) == {2}
        assert names == images
    assert [len(places) for _, _, places in subsets(jobs[0])] == [12, 12, 30, 30, 48, 48, 72]


def test_the_accuracy_of_all_images_is_scikit_learns(measured, image_folder):
    base = build_backbone("mobilenet", image_size=(32, 32), weights=None, alpha=0.25, seed=3)
    maps = keras.Model(base.input, base.get_layer("conv_pw_3_relu").output)

    def samples(split):
        images, labels = [], []
        for label, name in enumerate(measured.content["class_names"]):
            for path in sorted((image_folder / split / name).iterdir()):
                images.append(np.asarray(Image.open(path).convert("RGB").resize((32, 32), 2)))
                labels.append(label)
        features = maps.predict(np.stack(images).astype(np.float32), verbose=0)
        return features.mean(axis=(1, 2)), np.array(labels)

    train, (others, labels) = samples("train"), samples("validation")
    _, strength = out_of_fold(*train, folds=3, seed=3)
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    right = regression.fit(*train).predict(others) == labels
    recorded = np.load(measured.path / "correct.npy")
    assert recorded.shape == (7, 12 + 15)
    assert (recorded[-1, :12] != right).sum() <= 1


def test_the_tables_are_of_the_images_that_were_right(measured):
    correct = np.load(measured.path / "correct.npy")
    with (measured.path / "learning_curve.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    points = measured.content["points"]
    assert [int(line["num_images"]) for line in lines] == [p["num_images"] for p in points]
    assert [float(line["accuracy"]) for line in lines] == pytest.approx(correct.mean(axis=1))
    first = measured.content["curve"][0]
    assert (first["share"], first["num_images"]) == (0.2, 6)
    assert first["accuracy"] == pytest.approx(correct[:2].mean())
    low, high = first["accuracy_interval"]
    assert low <= first["accuracy"] <= high


def test_a_stopped_curve_goes_on_after_its_last_subset(start, measured, tmp_path, monkeypatch):
    classify, calls = pipeline.held_out, []

    def stop_at_the_third(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 3:
            raise Stopped("stopped", "Go on.")
        return classify(*arguments, **keywords)

    monkeypatch.setattr(pipeline, "held_out", stop_at_the_third)
    with pytest.raises(Stopped):
        start(tmp_path / "run")
    stopped = Run.open(tmp_path / "run").content
    assert (stopped["status"], len(stopped["points"])) == ("stopped", 2)
    again = start(tmp_path / "run", resume=True)
    assert len(calls) == 3 + 5
    for key in ("points", "curve", "forecast", "verdict"):
        assert again.content[key] == measured.content[key]
    np.testing.assert_array_equal(
        np.load(again.path / "correct.npy"), np.load(measured.path / "correct.npy")
    )


def test_another_config_does_not_continue_a_run(start, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "measure", lambda *_: pytest.fail("went on"))
    with pytest.raises(pytest.fail.Exception):
        start(tmp_path / "run")
    with pytest.raises(RunError, match=r"learning_curve\.seeds: \d -> 3 \(cannot be"):
        start(tmp_path / "run", "learning_curve.seeds=3", resume=True)


def test_shares_must_ascend(start, tmp_path):
    with pytest.raises(ConfigError, match="shares must ascend"):
        start(tmp_path / "run", "learning_curve.shares=[0.5, 0.2, 1]")
    with pytest.raises(ConfigError, match=r"learning_curve\.shares"):
        start(tmp_path / "run", "learning_curve.shares=[0.5, 1.5]")


def test_a_class_of_one_image_is_told(start, tmp_path):
    with pytest.raises(DataError, match="too few training images: 1 without copies"):
        start(tmp_path / "run", "data.train_per_class=1")


def simulated(accuracy_at, *, shares=(0.05, 0.1, 0.2, 0.4, 0.7, 1.0), num_images=2000):
    """Points of a classifier whose accuracy is a known function of the training images."""
    generator = np.random.default_rng(0)
    difficulty = generator.uniform(size=num_images)
    points, correct = [], []
    for share in shares:
        for seed in range(1 if share == 1 else 5):
            size = round(3000 * share)
            right = difficulty < accuracy_at(size) + generator.normal(scale=0.003)
            correct.append(right)
            points.append({"share": share, "seed": seed, "num_images": size})
    return points, np.stack(correct)


def test_a_curve_that_climbs_is_followed():
    def accuracy_at(size):
        return 0.97 - 4 * size**-0.4

    curve, forecast, verdict = conclude(*simulated(accuracy_at), seed=0)
    assert verdict == "growing"
    assert [row["num_images"] for row in curve] == [150, 300, 600, 1200, 2100, 3000]
    twice = next(row for row in forecast if row["factor"] == 2)
    assert twice["num_images"] == 6000
    low, high = twice["accuracy_interval"]
    assert low <= accuracy_at(6000) <= high
    assert high - low < 0.06
    least, most = twice["gain_interval"]
    assert least <= accuracy_at(6000) - accuracy_at(3000) <= most
    # The farther, the less is known.
    widths = [np.ptp(row["gain_interval"]) for row in forecast]
    assert widths == sorted(widths)


def test_a_curve_that_has_ended_is_flat():
    _, _, verdict = conclude(*simulated(lambda size: 0.9 - 200 * size**-1.5), seed=0)
    assert verdict == "flat"


def test_of_three_sizes_nothing_is_forecast(measured, capsys):
    points, correct = simulated(lambda _: 0.9, shares=(0.25, 0.5, 1.0))
    curve, forecast, verdict = conclude(points, correct, seed=0)
    assert (len(curve), forecast, verdict) == (3, [], "unknown")
    run = Run(measured.path, measured.content | {"forecast": [], "verdict": "unknown"})
    pipeline.show(run, Console(quiet=True))
    assert "no forecast" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verdict", "words"), [("flat", "will hardly help"), ("growing", "twice the data: about")]
)
def test_the_verdict_is_said_in_words(measured, capsys, verdict, words):
    curve, forecast, _ = conclude(*simulated(lambda size: 0.97 - 4 * size**-0.4), seed=0)
    record = measured.content | {"curve": curve, "forecast": forecast, "verdict": verdict}
    pipeline.show(Run(measured.path, record), Console(quiet=True))
    out = capsys.readouterr().out
    assert words in out
    assert "learning_curve.png" in out


def test_a_gain_and_an_accuracy_are_told_as_what_they_are(measured, capsys):
    """One is of the same images, the other of others: now, too."""
    curve, forecast, verdict = conclude(*simulated(lambda size: 0.97 - 4 * size**-0.4), seed=0)
    record = measured.content | {"curve": curve, "forecast": forecast, "verdict": verdict}
    pipeline.show(Run(measured.path, record), Console(quiet=True))
    lines = capsys.readouterr().out.splitlines()
    (now,) = (line for line in lines if line.startswith("now "))
    assert re.fullmatch(r"now [\d.]+% \(on other images \d+% to \d+%\), with 3,000 images", now)
    (twice,) = (line for line in lines if line.startswith("twice the data"))
    assert re.search(r"about [\d.]+ to [\d.]+ points more \(on other images \d+% to \d+%\)$", twice)
    assert any(line.startswith("The gain is estimated on the same test images") for line in lines)
