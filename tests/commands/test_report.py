"""The report: every number against scikit-learn, hostile names, missing things, a real browser."""

import base64
import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from run_folders import make_run
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
)
from web_pages import HOSTILE, Opened, Parsed, Tables

from cvtrain.commands.report import NUM_MISLABELS, render_report, report
from cvtrain.errors import RunError, Stopped
from cvtrain.runs.run import Run
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop
from cvtrain.system.text import escape

NEW_FIELDS = {
    "reading": [
        {
            "finding": "over-fitting",
            "detail": "The validation loss rises from epoch 4 on.",
            "proposal": "fit:\n  model: {dropout: 0.5}",
        },
        {"finding": "unremarkable", "detail": "Nothing else.", "proposal": ""},
    ],
    "calibration": {"temperature": 2.0, "error_before": 0.3, "error_after": 0.1},
    "mislabels": {"num": 0, "judged": {"test": 60}},
}
PROOF = {
    "conv1": {"trained": False, "before": "a" * 64, "after": "a" * 64},
    "conv2": {"trained": True, "before": "b" * 64, "after": "c" * 64},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("report") / "tiny-fit")


@pytest.fixture(scope="module")
def page(run):
    return render_report(run, Stop())


def predictions(run):
    """(labels, predicted, probabilities, files, class names) from the CSV alone."""
    with (run.path / "predictions-test.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    names = [re.fullmatch(r"p\((.*)\)", column)[1] for column in header[6:]]
    labels, predicted = [row[1] for row in rows], [row[2] for row in rows]
    probabilities = np.array([row[6:] for row in rows], np.float64)
    return labels, predicted, probabilities, [row[0] for row in rows], names


def percent(value):
    return f"{100 * value:.1f} %"


def alternative(page, begins):
    """The text of the one picture whose text begins like that."""
    (found,) = [i["alt"] for i in Parsed(page).find("img") if i["alt"].startswith(begins)]
    return found


def text_of(page):
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body))


class TestNumbers:
    def test_headline_and_scores_of_the_test_images(self, run, page):
        labels, predicted, probabilities, _, names = predictions(run)
        accuracy = accuracy_score(labels, predicted)
        n, z = len(labels), 1.959963984540054
        middle = (accuracy + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(accuracy * (1 - accuracy) / n + z**2 / (4 * n**2))
        interval = f"{100 * (middle - half):.1f} to {100 * (middle + half):.1f} %"
        loss = log_loss(
            labels, probabilities / probabilities.sum(axis=1, keepdims=True), labels=names
        )
        assert f"{percent(accuracy)} of 60 test images" in text_of(page)
        *_, row = Tables(page)["Scores by split"]
        assert row == ["test", "60", percent(accuracy), interval, f"{loss:.3f}"]
        assert f"images like these is {interval}" in text_of(page)

    def test_confusion_matrix(self, run, page):
        labels, predicted, *_, names = predictions(run)
        expected = confusion_matrix(labels, predicted, labels=names)
        rows = Tables(page).tables["Confusion matrix"]
        assert rows[0] == ["true \\ predicted", *names]
        assert [row[0] for row in rows[1:]] == names
        np.testing.assert_array_equal([[int(c) for c in row[1:]] for row in rows[1:]], expected)

    def test_classes(self, run, page):
        labels, predicted, *_, names = predictions(run)
        scores = precision_recall_fscore_support(labels, predicted, labels=names, zero_division=0)
        expected = {
            name: [name, str(count), percent(precision), percent(recall), f"{f1:.3f}"]
            for name, precision, recall, f1, count in zip(names, *scores, strict=True)
        }
        rows = Tables(page)["Scores by class"]
        assert {row[0]: row for row in rows} == expected
        assert [row[4] for row in rows] == sorted(row[4] for row in rows)

    def test_calibration(self, run, page):
        labels, predicted, probabilities, *_ = predictions(run)
        correct = np.array(labels) == np.array(predicted)
        confidence = probabilities.max(axis=1)
        accuracies, means = calibration_curve(correct, confidence, n_bins=15)
        rows = Tables(page)["Accuracy by confidence as a table"]
        assert [row[0] for row in rows] == [percent(mean) for mean in means]
        assert [row[2] for row in rows] == [percent(accuracy) for accuracy in accuracies]
        counts = [int(row[1]) for row in rows]
        assert sum(counts) == len(labels)
        error = np.average(np.abs(accuracies - means), weights=counts)
        assert f"weighted by the number of images: {percent(error)}" in text_of(page)

    def test_calibration_without_and_with_the_temperature(self, tmp_path):
        run = make_run(tmp_path / "run", **NEW_FIELDS)
        labels, predicted, probabilities, *_ = predictions(run)
        correct = np.array(labels) == np.array(predicted)
        page = render_report(run, Stop())
        assert "A temperature of 2.00" in text_of(page)
        assert "from 30.0 % to 10.0 %" in text_of(page)
        for name, temperature in (("without temperature", 1), ("with temperature", 2)):
            tempered = softmax(np.log(probabilities) / temperature, axis=1).max(axis=1)
            accuracies, means = calibration_curve(correct, tempered, n_bins=15)
            said = alternative(page, f"Accuracy by confidence, {name}: ")
            found = re.findall(r"of \d+ images at (\d+)%, (\d+)% are correct", said)
            np.testing.assert_allclose(
                np.array(found, int), 100 * np.array([means, accuracies]).T, atol=0.51
            )

    def test_risk_of_all_and_of_the_surer_half(self, run, page):
        labels, predicted, probabilities, *_ = predictions(run)
        wrong = (np.array(labels) != np.array(predicted))[np.argsort(-probabilities.max(axis=1))]
        said = (
            f"{wrong.mean():.1%} of all images, {wrong[: len(wrong) // 2].mean():.1%} of the half"
        )
        assert said in alternative(page, "Share of wrong predictions")

    def test_curves(self, run, page):
        with (run.path / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        expected = [
            [
                row["epoch"],
                f"{float(row['loss']):.4f}",
                f"{float(row['val_loss']):.4f}",
                percent(float(row["accuracy"])),
                percent(float(row["val_accuracy"])),
            ]
            for row in rows
        ]
        assert Tables(page)["Curves as a table"] == expected
        assert alternative(page, "Loss by epoch") == (
            "Loss by epoch: training from 2.000 to 0.333; validation from 2.100 to 0.350; "
            "kept: epoch 5."
        )
        assert alternative(page, "Accuracy by epoch") == (
            "Accuracy by epoch: training from 50.0% to 91.7%; validation from 40.0% to 81.7%; "
            "kept: epoch 5."
        )

    def test_data(self, run, page):
        split = json.loads((run.path / "split.json").read_text())
        names = run.content["class_names"]
        expected = [
            [name, *(str(len(classes[name])) for classes in split.values())] for name in names
        ]
        expected.append(["all", *(str(sum(map(len, c.values()))) for c in split.values())])
        assert Tables(page)["Images by class and split"] == expected

    def test_time(self, page):
        assert Tables(page)["Time by phase"] == [
            ["train", "80 s", "80.0 %"],
            ["other", "12 s", "12.0 %"],
            ["data", "5 s", "5.0 %"],
            ["evaluate", "3 s", "3.0 %"],
        ]

    def test_the_most_frequent_class_is_what_knowing_nothing_reaches(self, tmp_path):
        names = ["rare", "often"]
        files = [f"test/{i}.png" for i in range(30)]
        run = make_run(tmp_path / "run", class_names=names, files=files, num_test=30, sharpness=0)
        text = text_of(render_report(run, Stop()))
        assert "Always predicting “rare” reaches 50.0 %, so the model may be no better" in text


class TestCells:
    def test_a_cell_opens_its_images_the_costliest_first(self, run, page):
        labels, predicted, probabilities, files, names = predictions(run)
        of_label = probabilities[np.arange(len(labels)), [names.index(name) for name in labels]]
        order = np.argsort(of_label, kind="stable")
        for t, true in enumerate(names):
            for p, said in enumerate(names):
                inside = [i for i in order if (labels[i], predicted[i]) == (true, said)]
                shown = files_in(page, f"cell-{t}-{p}")
                assert shown == [files[i] for i in inside[: 6 if t == p else 12]]

    def test_pictures_are_those_of_the_files(self, run, page):
        files = predictions(run)[3]
        for file, uri in pictures_of(page):
            content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"), validate=True)
            pixels = np.asarray(Image.open(io.BytesIO(content)))
            assert pixels.shape == (18 * 3, 24 * 3, 3)  # the least whole factor that reaches 72
            assert np.abs(pixels.astype(int) - 20 - files.index(file)).max() <= 1

    def test_a_large_matrix_becomes_its_largest_confusions(self, tmp_path):
        names = [f"c{i:02d}" for i in range(40)]
        run = make_run(tmp_path / "run", class_names=names, num_test=400, images=False, sharpness=6)
        labels, predicted, *_ = predictions(run)
        matrix = confusion_matrix(labels, predicted, labels=names)
        np.fill_diagonal(matrix, 0)
        page = render_report(run, Stop())
        assert "Confusion matrix" not in Tables(page).tables
        rows = Tables(page)["Largest confusions"]
        assert [int(row[2]) for row in rows] == sorted(matrix[matrix > 0], reverse=True)[:60]
        for true, said, count, share in rows:
            assert matrix[names.index(true), names.index(said)] == int(count)
            assert share == percent(int(count) / 10)


def files_in(page, name):
    """The files in the images that a cell opens."""
    start = page.find(f'<div popover id="{name}"')
    if start < 0:
        return []
    part = page[start : page.index("</ul>", start)]
    return re.findall(r'<p class="file"><bdi>(.*?)</bdi>', part)


def pictures_of(page):
    images = Parsed(page).find("img")
    return [(one["alt"], one["src"]) for one in images if one["src"].startswith("data:image/jpeg")]


class TestWhatARunMayLack:
    def test_an_older_run_says_how_to_get_what_it_lacks(self, page):
        text = text_of(page)
        for words in (
            "cvtrain calibrate",
            "To see where the model looked: cvtrain visualize",
            "trained before labels were judged",
            "Every file was decoded before training",
        ):
            assert words in text
        assert "Freeze proof" not in text
        # Its curves are read now.
        assert "Validation loss was still falling when training ended" in text

    def test_that_an_older_run_never_learnt_is_found_out_now(self, tmp_path):
        text = text_of(render_report(make_run(tmp_path / "run", sharpness=0.0), Stop()))
        assert "The model has not learnt: on the 72 validation and test images" in text

    def test_new_fields_are_shown(self, tmp_path):
        text = text_of(render_report(make_run(tmp_path / "run", **NEW_FIELDS), Stop()))
        assert "The validation loss rises from epoch 4 on. Suggested change: fit: model:" in text
        assert "Nothing else." in text
        assert "No label stands out as likely wrong among 60 of test" in text

    def test_a_head_in_closed_form_has_no_curves(self, tmp_path):
        run = make_run(tmp_path / "run", command="extract-features", epochs=0, base=BASE)
        text = text_of(render_report(run, Stop()))
        assert "There are no curves" in text
        assert "A new head on mobilenet 0.25 up to conv_pw_6, frozen, on 12" in text

    def test_a_base_that_is_a_run_is_called_by_its_folder(self, tmp_path):
        base = {"name": None, "weights": "/runs/my scratch", "alpha": None, "cut": "pool1"}
        run = make_run(tmp_path / "run", command="extract-features", base=base)
        text = text_of(render_report(run, Stop()))
        assert "A new head on my scratch up to pool1, frozen, on 12" in text

    def test_a_finetuned_run_shows_its_proof(self, tmp_path):
        source = {"run": "/runs/my features", "weights": "s" * 64}
        run = make_run(tmp_path / "run", command="finetune", source=source, freeze_proof=PROOF)
        page = render_report(run, Stop())
        assert "1 frozen layers have the same weights" in text_of(page)
        assert Tables(page)["Digests of every layer"][1][:2] == ["conv2", "trained"]
        assert "--from &#39;/runs/my features&#39; --set precision=float32 --run-dir AGAIN" in page

    def test_a_run_that_is_not_exact_says_why(self, tmp_path):
        changes = ["fit.epochs: 2 -> 3", "tensorflow: <b>2.20</b> -> 2.21"]
        accepted = [{"when": "2026-11-22T09:00:00+00:00", "changes": changes}]
        text = "This run cannot be reproduced exactly, because it was continued after"
        run = make_run(tmp_path / "run", exact=False, accepted_changes=accepted)
        page = render_report(run, Stop())
        assert text in page
        assert "2026-11-22 09:00: fit.epochs: 2 -&gt; 3; tensorflow: &lt;b&gt;2.20" in page
        exact = render_report(make_run(tmp_path / "other", exact=True), Stop())
        assert text not in exact
        assert f"cvtrain reproduce {tmp_path / 'other'}" in exact

    def test_a_frozen_layer_that_changed_is_told(self, tmp_path):
        proof = {"conv1": PROOF["conv1"] | {"after": "e" * 64}}
        run = make_run(tmp_path / "run", command="finetune", freeze_proof=proof)
        assert "1 of 1 frozen layers changed" in text_of(render_report(run, Stop()))

    def test_images_that_moved_away_are_told(self, tmp_path):
        run = make_run(tmp_path / "run", images=False)
        page = render_report(run, Stop())
        assert "of the images on this page could not be read" in text_of(page)
        assert [uri for _, uri in pictures_of(page)] == []
        assert "no picture" in page

    def test_one_damaged_image_is_one_without_a_picture(self, tmp_path, page):
        run = make_run(tmp_path / "run")
        file = files_in(page, "cell-0-1")[0]
        (tmp_path / "images" / file).write_bytes(b"\xff\xd8\xff damaged")
        damaged = render_report(run, Stop())
        assert "1 of the images on this page could not be read" in text_of(damaged)
        lost = {alt for alt, _ in pictures_of(page)} - {alt for alt, _ in pictures_of(damaged)}
        assert lost == {file}

    def test_a_run_without_mistakes(self, tmp_path):
        text = text_of(render_report(make_run(tmp_path / "run", sharpness=1e3), Stop()))
        assert "None: every test image is classified correctly" in text
        assert "All test images are classified correctly" in text

    def test_mistakes_with_their_maps(self, tmp_path):
        run = make_run(tmp_path / "run", mistakes={"num": 1, "method": "gradcam", "layer": "conv9"})
        write_mistakes(run, "x.png", "cat", "dog")
        page = render_report(run, Stop())
        assert "layer conv9" in text_of(page)
        assert "cat 25.0 % predicted as dog 75.0 %" in text_of(page)
        alts = [alt for alt, _ in pictures_of(page)]
        assert alts[-3:] == ["x.png", "x.png: map for dog", "x.png: map for cat"]

    def test_likely_mislabels(self, tmp_path):
        run = make_run(tmp_path / "run")
        files = predictions(run)[3]
        lines = [f"{file},test,cat,dog,0.0612,0.9038" for file in files[: NUM_MISLABELS + 3]]
        text = "\n".join(["file,split,label,suggestion,p_label,p_suggestion", *lines, ""])
        (run.path / "mislabels.csv").write_text(text)
        text = text_of(render_report(run, Stop()))
        assert f"For {NUM_MISLABELS + 3} images, a model that was not trained on" in text
        assert text.count("labelled cat 6 %, looks like dog 90 %") == NUM_MISLABELS

    def test_what_was_measured_since(self, tmp_path):
        run = make_run(tmp_path / "run")
        folder = run.path / "evaluate" / "march-all"
        folder.mkdir(parents=True)
        metrics = run.content["metrics"]["test"] | {"split": "all", "source": "photos/march"}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        rows = Tables(render_report(run, Stop()))["Measured on other images"]
        assert rows[0][:3] == ["march-all", "photos/march", "60"]

    def test_what_it_answers(self, tmp_path):
        run = make_run(tmp_path / "run")
        abstention = {"threshold": 0.5, "test": {"coverage": 0.9, "risk": 0.125}}
        (run.path / "abstention.json").write_text(json.dumps(abstention))
        text = text_of(render_report(run, Stop()))
        assert "for 90.0 % of the test images; 12.5 % of these predictions are wrong" in text


BASE = {"name": "mobilenet", "weights": "imagenet", "alpha": 0.25, "cut": "conv_pw_6"}


def write_mistakes(run, file, true, predicted):
    folder = run.path / "mistakes"
    folder.mkdir()
    names = {"picture": "00.jpg", "map_true": "00-true.jpg", "map_predicted": "00-predicted.jpg"}
    for name in names.values():
        Image.new("RGB", (480, 320), "teal").save(folder / name)
    classes = {"true": true, "predicted": predicted, "p_true": 0.25, "p_predicted": 0.75}
    (folder / "mistakes.json").write_text(json.dumps([{"file": file, **classes, **names}]))


class TestRefusals:
    @pytest.mark.parametrize(
        ("record", "words"),
        [
            ({"command": "ladder"}, "its rungs have"),
            ({"command": "probe"}, "a run of probe has no predictions"),
            ({"metrics": 1}, "run.json: metrics: "),
            ({"class_names": ["cat", "dog"]}, "not of this run's classes"),
            ({"seconds": {"total": "long"}}, "run.json: seconds.total: "),
            ({"started": "yesterday"}, "run.json: started: "),
            ({"data": []}, "run.json: data: "),
        ],
    )
    def test_of_runs_without_predictions_and_damaged_ones(self, tmp_path, record, words):
        run = make_run(tmp_path / "run")
        (run.path / "run.json").write_text(json.dumps(run.content | record))
        with pytest.raises(RunError, match=re.escape(words)) as caught:
            render_report(Run.open(run.path), Stop())
        assert caught.value.advice

    def test_of_a_run_that_did_not_finish(self, tmp_path):
        run = make_run(tmp_path / "run")
        del run.content["metrics"]
        run.update(status="stopped")
        with pytest.raises(RunError, match="its status is 'stopped'"):
            render_report(run, Stop())

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("predictions-test.csv", "file,label\n"),
            ("history.csv", "epoch,loss\n1,2\n"),
            ("history.csv", "epoch,loss,accuracy,val_loss,val_accuracy\n1,2,x,4,5\n"),
            ("config.yaml", "a: [1\n"),
            ("split.json", "[]"),
            ("split.json", "{"),
            ("mislabels.csv", "file\nx\n"),
            ("mistakes/mistakes.json", "{}"),
            ("mistakes/mistakes.json", '[{"file": "x"}]'),
            ("abstention.json", '{"threshold": 2}'),
            ("evaluate/test/metrics.json", "{}"),
        ],
    )
    def test_of_damaged_files_by_name(self, tmp_path, name, content):
        run = make_run(tmp_path / "run")
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text(content)
        with pytest.raises(RunError, match=re.escape(name.rpartition("/")[2])):
            render_report(run, Stop())

    def test_pictures_outside_the_run_are_not_taken(self, tmp_path):
        run = make_run(tmp_path / "run")
        write_mistakes(run, "x.png", "cat", "dog")
        path = run.path / "mistakes" / "mistakes.json"
        path.write_text(path.read_text().replace("00.jpg", "../../images/test/cat/000.png"))
        with pytest.raises(RunError, match=r"mistakes\.json: picture"):
            render_report(run, Stop())

    def test_a_stop_is_heard(self, run):
        stop = Stop()
        stop.requested = True
        with pytest.raises(Stopped):
            render_report(run, stop)


class TestText:
    def test_the_policy_allows_the_style_and_nothing_else(self, page):
        parsed = Parsed(page)
        (policy,) = [m["content"] for m in parsed.find("meta") if "http-equiv" in m]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        digest = base64.b64encode(hashlib.sha256(parsed.texts["style"].encode()).digest()).decode()
        assert rules.pop("style-src") == f"'sha256-{digest}'"
        assert rules.pop("img-src") == "data:"
        assert rules == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}
        assert parsed.find("script") == []

    def test_refers_to_nothing_outside(self, page):
        assert not re.search(r"https?:|//[a-z]|url\(|@import", page)
        for _, attributes in Parsed(page).elements:
            assert "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
            for name in ("src", "href"):
                assert attributes.get(name, "data:").startswith(("data:", "#"))

    def test_every_picture_and_drawing_has_a_text(self, page):
        parsed = Parsed(page)
        assert parsed.find("img")
        assert all(image["alt"] for image in parsed.find("img"))
        for drawing in parsed.find("svg"):
            assert "aria-hidden" in drawing or (drawing["role"] == "img" and drawing["aria-label"])

    def test_every_place_that_is_named_is_there_once(self, page):
        parsed = Parsed(page)
        ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
        assert len(set(ids)) == len(ids)
        named = {a["href"][1:] for a in parsed.find("a")}
        named |= {b["popovertarget"] for b in parsed.find("button")}
        named |= {a["aria-labelledby"] for _, a in parsed.elements if "aria-labelledby" in a}
        assert named <= set(ids)

    def test_names_are_text_and_nothing_else(self, tmp_path, page):
        hostile = render_report(hostile_run(tmp_path / "run"), Stop())
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e\ud800-\udfff]", hostile)
        parsed = Parsed(hostile)
        assert [len(parsed.find(tag)) for tag in ("style", "script")] == [1, 0]
        assert {tag for tag, _ in parsed.elements} <= {tag for tag, _ in Parsed(page).elements}
        for name in HOSTILE:
            assert escape(name) in hostile or "&" in hostile
        assert pictures_of(hostile)


def hostile_run(path):
    """A run whose classes, files, layers and findings have names that are not meant well."""
    folders = [name.replace("/", "").replace("\0", "") for name in HOSTILE]
    files = [f"test/{i}{folders[i % len(folders)][:80]}.png" for i in range(4 * len(HOSTILE))]
    first = HOSTILE[0]
    run = make_run(
        path,
        class_names=HOSTILE,
        files=files,
        num_test=len(files),
        command="finetune",
        name=first,
        device=first,
        source={"run": first},
        freeze_proof=dict.fromkeys(HOSTILE, PROOF["conv1"]),
        reading=[{"finding": first, "detail": name, "proposal": name} for name in HOSTILE],
        versions={name: name for name in HOSTILE},
    )
    problems = [{"path": name, "severity": first, "what": name} for name in HOSTILE]
    check = {"num_files": 9, "bad": 1, "doubtful": 2, "problems": problems}
    run.update(data=run.content["data"] | {"check": check})
    return run


@pytest.mark.slow
def test_a_report_of_many_predictions_stays_below_five_megabytes(tmp_path):
    names = [f"class-{i:02d}" for i in range(30)]
    run = make_run(tmp_path / "run", class_names=names, num_test=10_000, images=False, sharpness=9)
    # Noise is the worst of all images for a JPEG.
    photo = tmp_path / "noise.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3)).astype(np.uint8)
    Image.fromarray(noise).save(photo, quality=95)
    for file in predictions(run)[3]:
        target = tmp_path / "images" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(photo, target)
    report(run, output=None, console=Console(quiet=True))
    size = (run.path / "report.html").stat().st_size
    assert 2_000_000 < size < 5_000_000


def test_command_writes_the_page_and_loads_no_engine(tmp_path, run):
    output = tmp_path / "page.html"
    command = [sys.executable, "-X", "importtime", "-m", "cvtrain", "report", run.path]
    done = subprocess.run([*command, "--output", output], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"written to {output}" in done.stdout
    assert output.read_text("utf-8").startswith("<!doctype html>")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "cvtrain.commands.report" in loaded
    assert not loaded & {"tensorflow", "keras", "jax", "torch"}


def test_the_page_lies_in_the_run_by_default(tmp_path):
    run = make_run(tmp_path / "run")
    assert report(run, output=None, console=Console(quiet=True)) == run.path / "report.html"
    assert Run.open(run.path).content == run.content


@pytest.fixture
def opened(browser, tmp_path, page):
    result = Opened(browser, tmp_path / "report.html", page)
    yield result
    # Chromium says so when a test has the focus before it has looked for a button to give it to.
    assert [line for line in result.log() if "Autofocus processing" not in line] == []
    assert result.requests() == [result.uri]


OPEN_CELL = "document.querySelector(':popover-open')"


class TestInBrowser:
    def test_a_cell_opens_its_images_and_closes(self, opened):
        assert opened.run(OPEN_CELL) is None
        opened.click("[popovertarget=cell-0-1]")
        assert opened.run(f"{OPEN_CELL}.id") == "cell-0-1"
        assert "cat predicted as dog" in opened.run(f"{OPEN_CELL}.innerText")
        widths = opened.run(
            f"""Promise.all([...{OPEN_CELL}.querySelectorAll("img")].map(async image => {{
              await image.decode(); return [image.naturalWidth, image.clientWidth];
            }}))"""
        )
        assert widths
        assert all(natural == 72 and shown > 60 for natural, shown in widths)
        opened.click(":popover-open .close")
        assert opened.run(OPEN_CELL) is None

    def test_a_cell_by_keyboard(self, opened):
        from selenium.webdriver.common.keys import Keys

        opened.run("document.querySelector('[popovertarget=cell-0-0]').focus()")
        opened.press(Keys.ENTER)
        assert opened.run(f"{OPEN_CELL}.id") == "cell-0-0"
        assert opened.run("document.activeElement.innerText") == "Close"
        opened.press(Keys.ESCAPE)
        assert opened.run(OPEN_CELL) is None
        assert opened.run("document.activeElement.getAttribute('popovertarget')") == "cell-0-0"
        opened.press(Keys.TAB, Keys.SPACE)
        assert opened.run(f"{OPEN_CELL}.id") == "cell-0-1"

    def test_details_by_keyboard(self, opened):
        from selenium.webdriver.common.keys import Keys

        opened.run("document.querySelector('summary').focus()")
        opened.press(Keys.ENTER)
        assert opened.run("document.querySelector('details').open")

    def test_one_heading_of_the_first_level_and_none_left_out(self, opened):
        levels = opened.run(
            "[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))"
        )
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))

    @pytest.mark.parametrize("width", [390, 1280])
    def test_nothing_is_wider_than_the_window(self, browser, tmp_path, width):
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        text = render_report(hostile_run(tmp_path / "run"), Stop())
        opened = Opened(browser, tmp_path / "index.html", text)
        assert opened.run("document.documentElement.scrollWidth") <= width
        opened.click("[popovertarget]")
        assert opened.run(f"{OPEN_CELL}.scrollWidth") <= width
        assert opened.run("window.pwned") is None
        assert opened.log() == []
        assert opened.requests() == [opened.uri]
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def test_what_is_smuggled_in_does_not_run_or_load(self, browser, tmp_path, page):
        smuggled = (
            "<script>window.pwned = 1</script><p id='x' onclick='window.pwned = 1'>x</p>"
            "<img src='http://127.0.0.1:9/x.png'><style>body { display: none }</style></main>"
        )
        text = page.replace("</main>", smuggled)
        opened = Opened(browser, tmp_path / "index.html", text)
        opened.click("#x")
        assert opened.run("window.pwned") is None
        assert opened.run("getComputedStyle(document.body).display") == "block"
        log = opened.log()
        assert len(log) >= 4
        assert all("Content Security Policy" in line for line in log)
