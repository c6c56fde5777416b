"""`cvtrain evaluate`: measure a run on its own images or on others."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cvtrain.config import load_config
from cvtrain.data.check import resolve
from cvtrain.data.index import Index, build_index, recorded_index
from cvtrain.data.manifest import has_columns
from cvtrain.data.metadata import find_manifests
from cvtrain.data.sources import locate_source
from cvtrain.errors import DataError
from cvtrain.evaluation.metrics import classification_report
from cvtrain.runs.moved_images import holds_recorded, recorded_root
from cvtrain.runs.predictions import predictions_csv
from cvtrain.runs.run import Run
from cvtrain.sections import Columns
from cvtrain.sections.base import compile_pattern
from cvtrain.steps.abstention import measure_abstention
from cvtrain.steps.dataset import DATA_DIR, check, columns_of, show_notes
from cvtrain.steps.inference import decoder_of_run, load_predictor, predict_split
from cvtrain.steps.scores import show_metrics, write_confusion_matrix
from cvtrain.steps.tta import view_average
from cvtrain.system.console import Console
from cvtrain.system.files import commit_text, committed_folder
from cvtrain.system.outputs import check_own_folder, commit_mark
from cvtrain.system.signals import Stop, stop_on_signals
from cvtrain.system.text import escape

_MARK = "metrics.json"


def evaluate(
    run: Run,
    *,
    source: str | None,
    split: str,
    output: Path | None,
    console: Console,
    tta: int = 1,
    columns: Columns | None = None,
) -> dict[str, Any]:
    """Measure the saved model of a run.

    Args:
        run: a run with a saved model.
        source: other images (default: those of the run).
        split: the split to measure, if the source has splits.
        output: the folder to write, which may replace that of an earlier evaluation (default: a
            folder in the run).
        tta: the number of views of each image to average over, see `steps.tta`.
        columns: the columns of a manifest (default: those of the config, if the manifest has them).

    Returns:
        The content of metrics.json: `metrics.classification_report` with the run's metrics, and
        `abstention` (see `calibration.coverage_and_risk`) if the run abstains.

    Raises:
        ConfigError: the run has no such views.
        RunError, DataError: the run or the images cannot be used.
        ResourceError: the folder contains other files, or cannot be written.
        Stopped: a stop was requested.
    """
    class_names = run.require("class_names").class_names
    average = view_average(run, tta)
    with stop_on_signals() as stop:
        index, has_splits = _index_of(run, source, split, columns, stop, console)
        index = _only(index, split, has_own_splits=has_splits)
        (name, part), *_ = index.splits.items()
        folder = output or run.path / "evaluate" / _folder_name(source, name, tta)
        check_own_folder(folder, _MARK)
        pixels, report = check(index, decoder_of_run(run), stop, console)
        index, messages = resolve(index, report, on_bad="skip", on_leak="allow")
        show_notes(index, messages, console)
        (name, part), *_ = index.splits.items()
        predict = average(load_predictor(run, stop))
        probabilities = predict_split(predict, pixels, part, stop, console)
    chosen = run.record.metrics.test.chosen if run.record.metrics else ()
    metrics = classification_report(part.labels, probabilities, class_names, chosen)
    metrics |= measure_abstention(run, part.labels, probabilities)
    described = {"split": name, "source": str(index.root), "tta": tta}
    with committed_folder(folder, mark=_MARK) as new:
        commit_text(new / "predictions.csv", predictions_csv(part, probabilities, class_names))
        write_confusion_matrix(new, metrics["confusion_matrix"], class_names)
        commit_mark(new, _MARK, described | metrics)
    show_metrics(metrics, console)
    console.print(f"written to {folder}/")
    return metrics


def _index_of(
    run: Run,
    source: str | None,
    split: str,
    columns: Columns | None,
    stop: Stop,
    console: Console,
) -> tuple[Index, bool]:
    """The images of the run or of `source`, and whether the splits are those of the run.

    If `source` has no splits and contains the images of the run, the recorded split is used.
    """
    class_names = run.record.class_names
    by_class = run.read_json("split.json") if (run.path / "split.json").exists() else {}
    if source is None:
        paths = [path for each in by_class.get(split, {}).values() for path in each]
        root = recorded_root(run, paths, warn=console.warning)
        return recorded_index(root, class_names, run.read_json("split.json")), True
    path = locate_source(source, data_dir=DATA_DIR, stop=stop, task=console.task)
    index = build_index(
        path,
        validation=0.0,
        test=0.0,
        seed=0,
        class_names=class_names,
        label_pattern=_label_pattern(run, path, class_names),
        columns=columns_of(columns or _columns(run, path)),
    )
    is_split = split in index.splits and list(index.splits) != ["train"]
    if is_split or not by_class or not holds_recorded(index.root, by_class):
        return index, False
    recorded = recorded_index(index.root, class_names, by_class)
    others = ", ".join(_not_measured(index, recorded, split))
    what = f"contains the images of the run: those of {split} are measured, but not {others}"
    console.info(f"{escape(path)} {what}", always=True)
    return replace(index, splits=recorded.splits), True


def _not_measured(index: Index, recorded: Index, split: str) -> Iterator[str]:
    """The number of images in each other split of the run, and in none."""
    left = {path for part in index.splits.values() for path in part.paths}
    for name, part in recorded.splits.items():
        if name != split:
            yield f"{len(left.intersection(part.paths)):,} of {name}"
        left.difference_update(part.paths)
    yield f"{len(left):,} that the run has not used"


def _columns(run: Run, source: Path) -> Columns | None:
    """The columns of the run's own manifest, if the new one has them, too."""
    config = run.path / "config.yaml"
    section = load_config(config).data.columns if config.is_file() else None
    if (columns := columns_of(section)) is None:
        return None
    manifests = find_manifests(source, columns)
    return section if manifests and all(has_columns(m, columns) for m in manifests) else None


def _label_pattern(run: Run, source: Path, class_names: Sequence[str]) -> re.Pattern[str] | None:
    """The label pattern of the run, for a folder without class folders."""
    config = run.path / "config.yaml"
    if not source.is_dir() or not config.is_file():
        return None
    pattern = load_config(config).data.label_pattern
    folders = [source, *(each for each in source.iterdir() if each.is_dir())]
    if pattern is None or any((f / name).is_dir() for f in folders for name in class_names):
        return None
    return compile_pattern(pattern)


def _only(index: Index, split: str, *, has_own_splits: bool) -> Index:
    """The index with one split; a source without splits is measured as a whole."""
    if split in index.splits:
        part = {split: index.splits[split]}
    elif not has_own_splits and list(index.splits) == ["train"]:
        part = {"all": index.splits["train"]}
    else:
        raise DataError(
            f"{index.root}: there are no images for {split}",
            f"It has {', '.join(index.splits)}; choose one with --split.",
        )
    return Index(index.root, index.class_names, part, index.left_out, index.notes)


def _folder_name(source: str | None, split: str, tta: int) -> str:
    how = split if tta == 1 else f"{split}-tta{tta}"
    if source is None:
        return how
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).name).strip("-.") or "data"
    return f"{word}-{how}"
