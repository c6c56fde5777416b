"""Find images that are likely labelled wrongly, at the end of every command that trains.

Validation and test images are judged by the model itself, which was not trained on them. Training
images are judged by classifiers that were fitted to the features of other images, if a frozen
backbone gave features: a network that was trained on an image reproduces its label, right or wrong.
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
    """The search for mislabels among training images.

    Attributes:
        num_images: number of images that were judged.
        suspects: the images among them that are likely labelled wrongly.
    """

    num_images: int = 0
    suspects: tuple[LikelyMislabel, ...] = ()


NO_SEARCH = MislabelSearch()
"""The result if no training image was judged."""


def search_training_images(session: RunSession, rows: "Rows") -> MislabelSearch:
    """Judge each training image by a logistic regression on the features of the others.

    Copies of an image are in one fold. Classes with fewer images than folds are left out, because a
    classifier learns little from one or two images. A backbone that was itself trained on these
    images has learnt their labels, so fewer mislabels are found with it. Classifiers that are no
    better than guessing judge nothing.

    Args:
        rows: maps (n, height, width, channels) of the training images; only the first of several
            views is used.
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
    """The mislabels that the source run found among the same training images."""
    if source.record.data.digest != session.dataset.digest:
        return NO_SEARCH
    mislabels = source.record.mislabels
    num_images = mislabels.judged.get("train", 0) if mislabels else 0
    if not num_images:
        return NO_SEARCH
    try:
        found = read_mislabels(source.path / FILE)
    except RunError as error:
        session.console.warning(f"{error.message}: the training images are not judged")
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
    """Commit `mislabels.csv`; return its entries and the field `mislabels` of run.json.

    Args:
        probabilities: (n, classes) of the saved model by split; validation and test are used.
        training: the result for the training images.
        left_out: the reason for which the model judges nothing; empty if it does.
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
    """Print the number of likely mislabels, and the most likely ones.

    Args:
        found, record: as `find_mislabels` returns them.
    """
    num, judged = record["num"], record["judged"]
    if left_out := record.get("left_out"):
        console.print(
            f"\nNo validation or test images are listed as likely mislabels or worst mistakes: "
            f"{left_out}."
        )
    if not num:
        return
    console.print(
        f"\n{num:,} of {sum(judged.values()):,} images may be labelled wrongly; the likeliest "
        f"first: {run.path / FILE}"
    )
    for each in found[:_MOST_SHOWN]:
        file, label, suggestion = map(escape, (each.file, each.label, each.suggestion))
        console.print(f"  {file}: labelled {label}, looks like {suggestion}")


def _num_different(digests: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many images of each class differ, (classes,)."""
    return np.array(
        [len(np.unique(digests[labels == label])) for label in range(int(labels.max()) + 1)]
    )
