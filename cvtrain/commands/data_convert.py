"""`cvtrain data convert`: a folder with images of formats that are not read -> one of PNG files."""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cvtrain.data.scan import join_names, natural_key
from cvtrain.errors import ConfigError, DataError
from cvtrain.images.convert import to_png
from cvtrain.images.decode import Decoder, read_image
from cvtrain.images.file_types import Convertible, DecodeError, advice_in, none_readable
from cvtrain.system.console import Console
from cvtrain.system.files import commit_json, committed_folder
from cvtrain.system.machine import num_threads
from cvtrain.system.outputs import read_mark
from cvtrain.system.signals import Stop, stop_on_signals
from cvtrain.system.text import escape, shell_quote

_MARK = ".cvtrain-converted.json"
_READABLE = Decoder((64, 64))  # the smaller, the faster; damage shows at any size
_MOST_LISTED = 20


@dataclass(frozen=True)
class _Outcome:
    """What became of one file: its new name, or the error for which it is left out."""

    path: str
    name: str = ""
    is_converted: bool = False
    num_pages: int = 1
    error: DecodeError | None = None


def data_convert(source: str, output: Path | None, *, console: Console) -> None:
    """Write every image below the folder `source` to the same place below `output`.

    Images that the decoder reads are copied; those of other formats become PNG files, upright, the
    first picture of each, named like the original with `.png` behind. What is damaged or no image
    is named and left out.

    Args:
        source: the folder, which stays as it is.
        output: the folder to write; None: `SOURCE-png` beside it.

    Raises:
        ConfigError: one of the folders lies in the other.
        DataError: the source is no folder, or there is no image in it that can be converted.
        ResourceError: the folder holds something else, or cannot be written.
        Stopped: on request; nothing was written.
    """
    folder = Path(os.path.realpath(source))
    if not folder.is_dir():
        raise DataError(f"{escape(source)}: is no folder", "Name the folder of the images.")
    output = output or _beside(Path(source), folder)
    _check_no_overlap(folder, output)
    # Pillow's warnings are about resolutions, names and sizes, none of which counts here.
    with (
        stop_on_signals() as stop,
        warnings.catch_warnings(action="ignore"),
        committed_folder(output, mark=_MARK) as new,
    ):
        done = _convert_all(folder, new, stop, console)
        if not any(each.name for each in done):
            errors = {each.path: each.error for each in done if each.error}
            raise none_readable(Path(source), errors)
        commit_json(new / _MARK, {"source": str(folder)})
    _print_result(done, Path(source), console)
    num_converted = sum(each.is_converted for each in done)
    num_copied = sum(bool(each.name) for each in done) - num_converted
    console.result(
        f"{escape(output)}: {num_converted:,} images converted to PNG, {num_copied:,} copied"
    )
    console.remark(f"next: cvtrain init {shell_quote(output)}")


def _beside(source: Path, folder: Path) -> Path:
    """`SOURCE-png` as the person would write it; `folder` is where the source really is."""
    if source.name in ("", ".."):
        return Path(os.path.relpath(folder.with_name(f"{folder.name}-png")))
    return source.with_name(f"{source.name}-png")


def _check_no_overlap(folder: Path, output: Path) -> None:
    real = Path(os.path.realpath(output))
    if real.is_relative_to(folder) or folder.is_relative_to(real):
        raise ConfigError(
            f"--output {escape(output)}: must lie beside the images, not among or above them",
            "Name another folder.",
        )


def _files(folder: Path) -> Iterator[str]:
    """Regular files below `folder`, by their paths in it; none that are hidden or cvtrain's."""
    for parent, folders, names in os.walk(folder):
        others = [f for f in folders if f.startswith(".") or read_mark(Path(parent, f))]
        folders[:] = sorted(set(folders) - set(others), key=natural_key)
        for name in sorted(names, key=natural_key):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder).as_posix()


def _convert_all(folder: Path, new: Path, stop: Stop, console: Console) -> list[_Outcome]:
    paths = list(_files(folder))
    if not paths:
        raise DataError(f"{escape(folder)}: holds no files", "Name the folder of the images.")
    names = _names(paths)
    work = partial(_convert, folder=folder, new=new, stop=stop)
    done = []
    with console.task("converting images") as show, ThreadPoolExecutor(num_threads()) as pool:
        for each in pool.map(work, paths, names):
            done.append(each)
            show(len(done), len(paths))
    return done


def _names(paths: Sequence[str]) -> Iterator[str]:
    """What each file is called when it is converted; no two are called the same."""
    taken = set(paths)
    for path in paths:
        name = f"{path}.png"
        while name in taken:
            name = f"{name}.png"
        taken.add(name)
        yield name


def _convert(path: str, name: str, *, folder: Path, new: Path, stop: Stop) -> _Outcome:
    stop.raise_if_stopped("converting images")
    try:
        content = read_image(folder / path)
        try:
            _READABLE(content)
            return _write(_Outcome(path, path), content, new)
        except Convertible as error:
            png, num_pages = to_png(content, error.kind)
            return _write(_Outcome(path, name, is_converted=True, num_pages=num_pages), png, new)
    except DecodeError as error:
        return _Outcome(path, error=error)


def _write(outcome: _Outcome, content: bytes, new: Path) -> _Outcome:
    target = new / outcome.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return outcome


def _print_result(done: Sequence[_Outcome], source: Path, console: Console) -> None:
    if pages := [each.path for each in done if each.num_pages > 1]:
        console.warn(f"only the first of several pictures of: {join_names(pages)}")
    left_out = [(each.path, each.error) for each in done if each.error]
    for path, error in left_out[:_MOST_LISTED]:
        advice = advice_in(source, error.advice)
        console.warn(f"left out: {escape(path)}: {error.message}\n  {advice}")
    if more := left_out[_MOST_LISTED:]:
        console.warn(f"left out: {len(more):,} more")
