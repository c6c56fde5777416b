"""The images of a run, which may have been moved since it was trained on them."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from cvtrain.data.sources import NAMED_SETS
from cvtrain.errors import DataError
from cvtrain.runs.run import Run
from cvtrain.system.text import escape

MOVED = "If they have moved, add where they are now: --data FOLDER"
"""The advice for missing images of a run."""


def recorded_root(
    run: Run,
    paths: Sequence[str],
    *,
    data: Path | None = None,
    warn: Callable[[str], None],
) -> Path:
    """The current root folder of the images of a run.

    Args:
        run: the run that was trained on them.
        paths: the paths of the images to read, relative to the root.
        data: the new folder or manifest; None for the recorded root.
        warn: called with a line if some of them are missing.

    Raises:
        DataError: all of them are gone.
    """
    root = Path(run.require("data").data.root) if data is None else folder_of(data)
    gone = [path for path in paths if not os.path.exists(root / path)]  # noqa: PTH110 - long names
    if not gone:
        return root
    example = escape(gone[0])
    if not root.is_dir():
        raise DataError(f"{escape(root)} is gone, with the images of {run.path}", MOVED)
    what = f"{len(gone):,} of {len(paths):,} images of {run.path} are gone, such as {example}"
    if len(gone) == len(paths):
        raise DataError(f"{escape(root)}: {what}", MOVED)
    warn(f"{escape(root)}: {what}\n  {MOVED}")
    return root


def require_images(source: str, advice: str) -> None:
    """Raise DataError if the `data.source` of a run no longer exists."""
    if source not in NAMED_SETS and not os.path.exists(source):  # noqa: PTH110 - as above
        raise DataError(f"{escape(source)} is gone", advice)


def holds_recorded(root: Path, by_class: Mapping[str, Mapping[str, Collection[str]]]) -> bool:
    """Whether most of the images that a run recorded are below `root`, under the same paths.

    Such images include those on which the run was trained, so they must not be used to evaluate it.

    Args:
        by_class: {split: {class: [path, ...]}}, as in split.json.
    """
    paths = [path for classes in by_class.values() for each in classes.values() for path in each]
    num_there = sum(os.path.exists(root / path) for path in paths)  # noqa: PTH110 - long names
    return 2 * num_there > len(paths)


def folder_of(source: Path) -> Path:
    """The folder to which the paths in a folder or in a manifest are relative."""
    return source.parent if source.is_file() else source
