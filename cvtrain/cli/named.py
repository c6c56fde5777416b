"""Tell apart RUN, MODEL and images among the arguments, before anything is loaded.

A mistyped run must not be replaced by another model. So an argument that does not exist, that is or
contains a model, or that looks like a run is refused with the right command. The newest run is used
only if all arguments can be images.
"""

import contextlib
import difflib
import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvtrain.errors import DataError, RunError
from cvtrain.images.file_types import DecodeError, kind_of
from cvtrain.models import foreign_models as formats
from cvtrain.system.console import Console
from cvtrain.system.text import escape, shell_quote

if TYPE_CHECKING:
    from cvtrain.runs.run import Run

RUNS_DIR = Path("runs")

Typed = Callable[[object], str]
"""A run folder -> the right command line with it."""

_MOST_NAMED = 4


def open_run(
    path: Path | None, console: Console, *, typed: Typed | None = None, needs_model: bool = False
) -> "Run":
    """Open the run at `path`, or the newest run with a model, which is then printed.

    Args:
        path: the argument of the command line; None if there is none.
        console: prints which run is used, also with --quiet.
        typed: the right command line for a run (default: with the run as its only argument).
        needs_model: whether to refuse a run without a model.

    Raises:
        RunError: `path` is not a run, or there is no run.
    """
    from cvtrain.runs.run import Run, newest_run

    if path is None:
        run = newest_run(RUNS_DIR, has_model=True)
        console.info(f"run: {run.path} (the newest)", always=True)
        return run
    if not is_run(path):
        raise refusal(path, typed or typed_with())
    run = Run.open(path)
    if needs_model:
        run.require_model()
    return run


def open_run_for(paths: Sequence[str], console: Console) -> tuple["Run", Sequence[str]]:
    """Open the run, and find the images, of the arguments `[RUN] IMAGES...`.

    Raises:
        RunError: an argument is, contains or looks like a run or model in the wrong place.
        DataError: none of the images exists.
    """
    run = Path(paths[0]) if paths and is_run(Path(paths[0])) else None
    images = paths[1:] if run else paths
    _check_no_runs_or_models(images, named=run)
    opened = open_run(run, console, needs_model=True)
    _require_images(images)
    return opened, images


def open_model_for(paths: Sequence[str], console: Console) -> tuple["Run | Path", Sequence[str]]:
    """The run or `.keras` file, and the images, of the arguments `[RUN|MODEL.keras] [IMAGES]...`.

    Raises:
        RunError, DataError: as `open_run_for`.
    """
    model = Path(paths[0]) if paths and paths[0].endswith(".keras") else None
    if model is None or model.is_dir():
        return open_run_for(paths, console)
    _check_no_runs_or_models(paths[1:], named=model)
    _require_images(paths[1:])
    return model, paths[1:]


def typed_with(*images: str) -> Typed:
    """The command line of this command with a run before these images."""
    command = click.get_current_context().info_name
    some = [shell_quote(image) for image in images[:_MOST_NAMED]]
    rest = [*some, "..."] if len(images) > _MOST_NAMED else some
    return lambda run: " ".join(["cvtrain", str(command), shell_quote(run), *rest])


def refusal(path: Path, typed: Typed, *, or_images: bool = False) -> RunError:
    """The error for a path that is not a run folder, with the right command.

    Args:
        path: a path that is not a run folder.
        typed: the right command line for a run.
        or_images: whether images are allowed in its place.
    """
    around, runs, in_words = run_around(path), _runs_in(path), model_at(path)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists fails for a name that is too long
        what = f"there is no such {'run, file or folder' if or_images else 'run folder'}"
        advice = _advice_for_missing(path, typed, or_images=or_images)
    elif around is not None:
        what, advice = f"is inside the run folder {around}", f"Name the folder: {typed(around)}"
    elif in_words:
        what, advice = f"is {in_words}, not a run folder", _advice_for_model(path, typed)
    elif runs:
        what, advice = "contains run folders, but is not one", f"Name one: {_listed(runs)}"
    elif (inside := _model_in(path)) is not None:
        what = f"not a run folder: it contains {model_at(inside)} ({inside.name}), but no run.json"
        advice = _advice_for_model(inside, typed)
    else:
        what = f"not a run folder: it has no run.json{_no_image_either(path) if or_images else ''}"
        advice = f"Name a run: {_listed(_runs_in(RUNS_DIR)) or typed('RUN')}"
    return RunError(f"{escape(path)}: {what}", advice)


def is_run(path: Path) -> bool:
    """Whether a folder is a run, finished or not."""
    return _is_file(path / "run.json")


def run_around(path: Path) -> Path | None:
    """The run folder around a file or folder, relative if possible; None if there is none."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - does not follow links
    found = next((folder for folder in whole.parents if is_run(folder)), None)
    here = Path.cwd()
    return found.relative_to(here) if found and found.is_relative_to(here) else found


def model_at(path: Path) -> str:
    """A description of a model file; empty for other files and names of images."""
    return "" if _is_named_as_image(path) else formats.model_at(path)


def _is_named_as_image(path: Path) -> bool:
    from cvtrain.data.scan import IMAGE_EXTENSIONS

    _, dot, extension = path.name.lower().rpartition(".")
    return bool(dot) and extension in IMAGE_EXTENSIONS


def _check_no_runs_or_models(images: Sequence[str], *, named: Path | None) -> None:
    """Raise RunError for an argument that cannot be meant as images.

    Args:
        images: the arguments after the run or model.
        named: the run or model that the first argument names; None if the newest run is used.
    """
    for place, argument in enumerate(images):
        is_pattern = glob.has_magic(argument) and not os.path.lexists(argument)
        matches = glob.glob(argument, recursive=True) if is_pattern else []  # noqa: PTH207
        is_first = place == 0 and not is_pattern
        for path in map(Path, matches or [argument]):
            typed = typed_with(*images[:place], *images[place + 1 :])
            if is_run(path):
                raise RunError(
                    f"{escape(path)}: is a run folder, but not the first argument",
                    f"Name one run, as the first argument: {typed(path)}",
                )
            if named and (what := model_at(path)):
                raise RunError(f"{escape(path)}: is {what}, not an image", "Leave it out.")
            if not named and not _can_be_images(path, is_first=is_first):
                raise refusal(path, typed, or_images=True)


def _can_be_images(path: Path, *, is_first: bool) -> bool:
    """Whether an argument can be meant as images; the first one may be a mistyped run."""
    if os.path.isdir(path):  # noqa: PTH112 - as above
        inside = _model_in(path)
        is_whole = inside is not None and inside.suffix == ".keras"
        if is_whole or _was_run(path) or run_around(path) or _is_below_runs(path):
            return False
        return _holds_images(path) or not (is_first or inside or _runs_in(path))
    if _is_named_as_image(path):
        return True
    if not os.path.exists(path):  # noqa: PTH110 - as above
        return not (is_first or _is_below_runs(path) or _near(path, _runs_near(path)))
    return not (model_at(path) or run_around(path)) and not (is_first and _no_image_either(path))


def _require_images(images: Sequence[str]) -> None:
    """Raise DataError if images are named and none of them exists. They are not decoded."""
    from cvtrain.data.scan import find_images, join_names

    missing = []
    for found in find_images(images, {}):
        if not found.problem:
            return
        missing.append(found)
    if len(missing) == 1:
        path = Path(missing[0].path)
        near = None if os.path.lexists(path) else _near(path, _siblings(path))
        advice = _did_you_mean(near) or "Name image files, folders or patterns."
        raise DataError(f"{join_names([missing[0].path])}: {missing[0].problem}", advice)
    if missing:
        names = join_names((found.path for found in missing), _MOST_NAMED)
        raise DataError(f"no images found at {names}", "Name image files, folders or patterns.")


def _advice_for_missing(path: Path, typed: Typed, *, or_images: bool) -> str:
    if run := _near(path, _runs_near(path)):
        return f"{_did_you_mean(run)} {typed(run)}"
    if or_images and (near := _near(path, _siblings(path))):
        return _did_you_mean(near)
    if around := run_around(path):
        return f"Name the run folder that would contain it: {typed(around)}"
    runs = _listed(_runs_in(RUNS_DIR))
    return f"Name a run: {runs}" if runs else "There is no run in ./runs yet."


def _advice_for_model(path: Path, typed: Typed) -> str:
    """The advice for a model file in the place of a run."""
    to_run = f"Name the run folder that it came from, which records the classes: {typed('RUN')}"
    what = model_at(path)
    if what == formats.MODELS[".keras"] and not path.name.endswith(".keras"):
        return f"{to_run}; visualize opens it under a name that ends in .keras"
    if what == formats.MODELS[".keras"] and run_around(path) is None:
        return f"{to_run}; to explain it: cvtrain visualize {shell_quote(path)} photos/"
    if click.get_current_context().info_name != "visualize":
        return to_run
    if what == formats.MODELS[".keras"] or formats.is_of_others(path):
        return f"visualize opens .keras files. {formats.how_to_open(path)}"
    return formats.how_to_restore(path)


def _did_you_mean(path: Path | None) -> str:
    return f"Did you mean {escape(path)}?" if path else ""


def _listed(paths: Sequence[Path]) -> str:
    from cvtrain.data.scan import join_names

    return join_names(map(str, reversed(paths)), _MOST_NAMED)


def _near(path: Path, known: Sequence[Path]) -> Path | None:
    """The path with the most similar name."""
    by_name = {each.name: each for each in reversed(known)}
    found = difflib.get_close_matches(path.name, by_name, n=1)
    return by_name[found[0]] if found else None


def _runs_near(path: Path) -> list[Path]:
    """The runs beside a path and in the default folder."""
    return [*_runs_in(path.parent), *_runs_in(RUNS_DIR)]


def _runs_in(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(each.parent for each in folder.glob("*/run.json"))
    return []


def _siblings(path: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path.parent.iterdir())
    return []


def _is_below_runs(path: Path) -> bool:
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - does not follow links
    return whole.is_relative_to(Path.cwd() / RUNS_DIR) and bool(_runs_in(RUNS_DIR))


def _was_run(folder: Path) -> bool:
    from cvtrain.runs.run import FIRST_FILES

    return all(_is_file(folder / name) for name in FIRST_FILES)


def _model_in(folder: Path) -> Path | None:
    """A file in a folder whose name is that of a model; `.keras` first, fingerprint.pb last."""
    suffixes = tuple(formats.MODELS)
    found = [each for each in _siblings(folder / "x") if each.name.lower().endswith(suffixes)]
    found.sort(key=lambda path: (path.suffix != ".keras", path.name == "fingerprint.pb", path.name))
    return found[0] if found else None


def _holds_images(folder: Path) -> bool:
    from cvtrain.data.scan import find_images

    found = find_images([str(folder)], {})
    return any(not each.problem and run_around(Path(each.path)) is None for each in found)


def _no_image_either(path: Path) -> str:
    """Why a path contains no images either; empty if it contains some."""
    if os.path.isdir(path):  # noqa: PTH112 - as above
        return "" if _holds_images(path) else " and no images"
    try:
        kind_of(formats.beginning(path))
    except DecodeError as error:
        return f", and it is not an image: {error.message}"
    return ""


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError):  # the name may be too long, the folder not readable
        return path.is_file()
    return False
