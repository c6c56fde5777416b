"""`cvtrain report`: the results of a run on one self-contained page."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cvtrain.evaluation.calibration import with_temperature
from cvtrain.evaluation.curve_diagnosis import Diagnosis, read_curves
from cvtrain.evaluation.metrics import (
    METRICS,
    NUM_CALIBRATION_BINS,
    calibration_bins,
    worst_mistakes,
)
from cvtrain.evaluation.mislabels import LikelyMislabel, read_mislabels
from cvtrain.evaluation.remedies import Stage, held_out_of
from cvtrain.images.decode import Decoder
from cvtrain.reports import text as words
from cvtrain.reports.confusion import by_turns, confusion, images_by_cell
from cvtrain.reports.mistakes import explained_cards, plain_cards
from cvtrain.reports.plots import Plot, plot_calibration, plot_curves
from cvtrain.reports.run_files import (
    Abstaining,
    image_paths,
    measured_record,
    read_abstention,
    read_config,
    read_history,
    read_measurements,
    read_mistakes,
    read_settings,
)
from cvtrain.reports.thumbnails import thumbnails
from cvtrain.runs.moved_images import MOVED, folder_of
from cvtrain.runs.predictions import Predictions, read_predictions
from cvtrain.runs.record import RunRecord
from cvtrain.runs.run import Run
from cvtrain.runs.settings import flat_settings
from cvtrain.system.console import Console, duration
from cvtrain.system.files import commit_text
from cvtrain.system.html import render
from cvtrain.system.outputs import PAGE, check_replaceable
from cvtrain.system.signals import Stop, stop_on_signals
from cvtrain.system.text import shell_quote
from cvtrain.version import __version__

SECTIONS = {
    "curves": "Learning curves",
    "confusion": "Confusion matrix",
    "classes": "Scores of each class",
    "calibration": "Calibration",
    "mistakes": "Worst mistakes",
    "mislabels": "Likely mislabels",
    "data": "Data",
    "freeze": "Freeze proof",
    "time": "Time",
    "again": "Reproduce",
}
NUM_MISLABELS = 24
_MOST_PICTURES = 400
_LONGEST = 144  # pixels
_BUDGET = 2_600_000  # characters; with the maps the page stays below 5 MB


def report(
    run: Run,
    *,
    output: Path | None,
    console: Console,
    force: bool = False,
    data: Path | None = None,
) -> Path:
    """Write one HTML page about a run.

    Args:
        run: with a model that was measured.
        output: the file to write; None for `report.html` in the run.
        data: folder or manifest where the run's images are; None: where they were.
        force: let it take the place of any file; else only of a page of ours.

    Returns:
        The file.

    Raises:
        ConfigError: the file is not a page of cvtrain.
        RunError: the run is of another kind, not finished, or damaged.
        ResourceError: the page cannot be written.
        Stopped: a stop was requested.
    """
    path = output or run.path / "report.html"
    check_replaceable(path, force=force, ours=PAGE)
    with stop_on_signals() as stop:
        page = render_report(run, stop, data=data, warn=console.warning)
    commit_text(path, page)
    console.print(f"written to {path} ({len(page) / 1e6:.1f} MB)")
    return path


def render_report(
    run: Run, stop: Stop, *, data: Path | None = None, warn: Callable[[str], None] = lambda _: None
) -> str:
    """The page; what the run lacks is left out of it.

    Args:
        data: folder or manifest where its images are; None: where they were.
        warn: called with a warning about missing images.
    """
    record = measured_record(run)
    root = Path(record.data.root) if data is None else folder_of(data)
    test, class_names = record.test, record.class_names
    predictions = read_predictions(run.path / "predictions-test.csv", class_names)
    suspects = read_suspects(run)
    explained = read_mistakes(run)
    worst = worst_mistakes(predictions.labels, predictions.probabilities)
    if record.mistakes.left_out:
        explained, worst = None, []
    cells = images_by_cell(predictions, test.confusion_matrix)

    wanted = [suspect.file for suspect in suspects[:NUM_MISLABELS]]
    wanted += [predictions.files[i] for i in (*(() if explained else worst), *by_turns(cells))]
    pictures = pictures_of(run, root, wanted, stop)
    num_missing = sum(not picture for picture in pictures.values())
    if num_missing:
        what = f"{num_missing:,} of {len(pictures):,} pictures are missing"
        warn(f"{what}: their images cannot be read in {root}\n  {MOVED}")
    if explained:
        mistakes = explained_cards(run, explained, stop)
    else:
        mistakes = plain_cards(worst, predictions, class_names, pictures)
    start = record.start.model_dump() if record.start else None
    config, history, phases = read_settings(run), read_history(run), words.phases(record)
    settings, abstention = flat_settings(config), read_abstention(run)
    return render(
        "cvtrain.reports",
        "report.html.j2",
        title=run.path.resolve().name,
        version=__version__,
        sections=[
            (place, name)
            for place, name in SECTIONS.items()
            if (place != "freeze" or record.freeze_proof) and (place != "time" or phases)
        ],
        record=record,
        run_dir=shell_quote(run.path),
        what=words.what_was_trained(record, settings),
        meaning=words.what_it_means(test),
        chance=words.most_frequent(test)[1],
        readings=readings(record, config, history),
        history=history,
        more_metrics=[name for name in METRICS if f"val_{name}" in history],
        curves=plot_curves(history, record.best_epoch, start),
        confusion=confusion(test.confusion_matrix, class_names, predictions, cells, pictures),
        num_missing=num_missing,
        root=root,
        classes=sorted(test.per_class.items(), key=lambda item: _worst_first(item[1].f1)),
        calibration=calibration(predictions, record, abstention),
        bins=calibration_bins(predictions.labels, predictions.probabilities),
        num_bins=NUM_CALIBRATION_BINS,
        abstention=abstention,
        mistakes=mistakes,
        has_maps=any(card.maps for card in mistakes),
        suspects=[(one, pictures.get(one.file, "")) for one in suspects[:NUM_MISLABELS]],
        num_suspects=len(suspects),
        measurements=read_measurements(run),
        phases=phases,
        commands=words.commands(run.path, record, settings),
        identity=words.identity(record),
        accepted_changes=words.accepted_changes(record),
        config_lines=read_config(run).splitlines(),
        percent=words.percent,
        interval=words.interval,
        duration=duration,
    )


def pictures_of(run: Run, root: Path, files: Sequence[str], stop: Stop) -> dict[str, str]:
    """Pictures of the images that the CSV files of a run name, as many as the page may hold."""
    paths = image_paths(run, root)
    found = ((name, paths[name]) for name in dict.fromkeys(files) if name in paths)
    recorded = run.record.decoder
    settings = recorded.model_dump() if recorded else Decoder((1, 1)).settings()
    return thumbnails(
        dict(islice(found, _MOST_PICTURES)),
        longest=_LONGEST,
        budget=_BUDGET,
        stop=stop,
        like=Decoder.recorded((1, 1), settings),
    )


def readings(
    record: RunRecord, config: Mapping[str, Any], history: Mapping[str, Sequence[float]]
) -> Sequence[Diagnosis]:
    """What the curves say: as the run recorded it, else read now."""
    if record.reading is not None:
        return [Diagnosis(one.finding, one.detail, one.proposal) for one in record.reading]
    counts = {
        split: [by_class.get(name, 0) for name in record.class_names]
        for split, by_class in record.data.counts.items()
    }
    assert record.metrics is not None
    name, metrics = record.command.replace("-", "_"), record.metrics.model_dump()
    try:
        held_out = held_out_of(counts, metrics) if metrics["validation"] else None
        return read_curves(history, Stage(name, config, counts, held_out))
    # A proposal starts from keys that an older config lacks, and that somebody may have edited.
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError):
        return []


def _worst_first(f1: float | None) -> tuple[bool, float]:
    """What to sort by; classes without test images come last."""
    return f1 is None, f1 or 0.0


def read_suspects(run: Run) -> list[LikelyMislabel]:
    """The labels that are likely wrong, likeliest first; none where the run did not look."""
    path = run.path / "mislabels.csv"
    return read_mislabels(path) if path.exists() else []


def calibration(
    predictions: Predictions, record: RunRecord, abstention: Abstaining | None
) -> list[Plot]:
    """Confidence of the test images without and with the run's temperature, and its threshold."""
    labels, probabilities = predictions.labels, predictions.probabilities
    tempered = None
    if record.calibration is not None:
        tempered = with_temperature(probabilities, record.calibration.temperature)
    threshold = abstention.threshold if abstention else None
    return plot_calibration(labels, probabilities, tempered, threshold)
