"""Which images are likely labelled wrongly: asked at the end of every command that trains.

Validation and test images are judged by the model itself, which has not learnt them. Training
images are judged where a frozen backbone has features of them, by classifiers that are fitted on
the other images; a network that was trained on an image knows its label, right or wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cvtrain.errors import RunError
from cvtrain.evaluation.metrics import against_guessing
from cvtrain.evaluation.mislabels import (
    LikelyMislabel,
    mislabels_csv,
    rank,
    read_mislabels,
    suspects,
)
from cvtrain.features.store import Rows
from cvtrain.models.heads import pool
from cvtrain.runs.run import Run
from cvtrain.steps.session import RunSession
from cvtrain.system.console import Console
from cvtrain.system.files import commit_text
from cvtrain.system.text import escape
from cvtrain.training.linear_probe import out_of_fold

FILE = "mislabels.csv"
_FOLDS = 5
_MOST_JUDGED = 20_000  # training images: half a minute
_ROWS_AT_ONCE = 256
_MOST_SHOWN = 3


@dataclass(frozen=True)
class MislabelSearch:
    """Training images that were judged.

    Attributes:
        num_images: how many.
        suspects: those of them that are likely labelled wrongly.
    """

    num_images: int = 0
    suspects: tuple[LikelyMislabel, ...] = ()


NO_SEARCH = MislabelSearch()
"""Where there are no features, or nobody was asked."""


def search_training_images(session: RunSession, rows: "Rows") -> MislabelSearch:
    """Ask of each training image what logistic regression on the others' features makes of it.

    Copies of an image are in one fold. Classes with fewer images than there are folds are left out:
    of one or two images a classifier learns little. A backbone that was itself trained on these
    images has learnt their labels, and finds less.

    Of classifiers that are no better than guessing nothing is asked.

    Args:
        rows: maps (n, height, width, channels) of the training images; of several views the first
            counts.
    """
    index = session.dataset.index
    split = index.splits["train"]
    digests = np.array([session.dataset.pixels.digests[path] for path in split.paths])
    indices = np.flatnonzero(_num_different(digests, split.labels)[split.labels] >= _FOLDS)
    if len(indices) > _MOST_JUDGED:
        indices = indices[np.linspace(0, len(indices) - 1, _MOST_JUDGED).round().astype(int)]
    labels = split.labels[indices]
    if len(np.unique(labels)) < 2:
        return NO_SEARCH
    with session.watch.phase("judge"):
        parts = np.split(indices, range(_ROWS_AT_ONCE, len(indices), _ROWS_AT_ONCE))
        features = np.concatenate([pool(rows.take(part), "average") for part in parts])
        probabilities, _ = out_of_fold(
            features,
            labels,
            folds=_FOLDS,
            seed=session.config.seed,
            groups=digests[indices],
            raise_if_stopped=partial(session.stop.raise_if_stopped, "judging the labels"),
        )
    if not against_guessing(labels, probabilities).is_better:
        return NO_SEARCH
    files = [split.paths[i] for i in indices]
    found = suspects(files, ["train"] * len(files), labels, probabilities, index.class_names)
    return MislabelSearch(len(files), tuple(found))


def judged_before(source: Run, session: RunSession) -> MislabelSearch:
    """What the run that this one goes on from found about the same training images."""
    if source.record.data.digest != session.dataset.digest:
        return NO_SEARCH
    mislabels = source.record.mislabels
    num_images = mislabels.judged.get("train", 0) if mislabels else 0
    if not num_images:
        return NO_SEARCH
    try:
        found = read_mislabels(source.path / FILE)
    except RunError as error:
        session.console.warn(f"{error.message}: the training images are not judged")
        return NO_SEARCH
    return MislabelSearch(
        num_images, tuple(suspect for suspect in found if suspect.split == "train")
    )


def find_mislabels(
    session: RunSession,
    probabilities: Mapping[str, np.ndarray],
    training: MislabelSearch,
    *,
    left_out: str = "",
) -> tuple[list[LikelyMislabel], dict[str, Any]]:
    """Commit `mislabels.csv`; its lines, and `mislabels` of run.json.

    Args:
        probabilities: (n, classes) of the saved model, by split; validation and test count.
        training: what is known of the training images.
        left_out: why that model judges nothing, where it does not.
    """
    found, judged = list(training.suspects), {"train": training.num_images}
    if not left_out:
        index = session.dataset.index
        parts = {name: index.splits[name] for name in ("validation", "test")}
        found += suspects(
            [path for part in parts.values() for path in part.paths],
            [name for name, part in parts.items() for _ in part.paths],
            np.concatenate([part.labels for part in parts.values()]),
            np.concatenate([probabilities[name] for name in parts]),
            index.class_names,
        )
        judged |= {name: len(part.paths) for name, part in parts.items()}
    found = rank(found)
    commit_text(session.run.path / FILE, mislabels_csv(found))
    judged = {name: num for name, num in judged.items() if num}
    record: dict[str, Any] = {"num": len(found), "judged": judged}
    return found, record | ({"left_out": left_out} if left_out else {})


def print_mislabels(
    run: Run, found: Sequence[LikelyMislabel], record: Mapping[str, Any], console: Console
) -> None:
    """Print how many images are likely labelled wrongly, and the likeliest of them.

    Args:
        found, record: as `find_mislabels` returns them.
    """
    num, judged = record["num"], record["judged"]
    if left_out := record.get("left_out"):
        console.result(
            f"\nNo validation or test images are listed as likely mislabels or worst mistakes: "
            f"{left_out}."
        )
    if not num:
        return
    console.result(
        f"\n{num:,} of {sum(judged.values()):,} images may be labelled wrongly; the likeliest "
        f"first: {run.path / FILE}"
    )
    for each in found[:_MOST_SHOWN]:
        file, label, suggestion = map(escape, (each.file, each.label, each.suggestion))
        console.result(f"  {file}: labelled {label}, looks like {suggestion}")


def _num_different(digests: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many images of each class differ, (classes,)."""
    return np.array(
        [len(np.unique(digests[labels == label])) for label in range(int(labels.max()) + 1)]
    )
