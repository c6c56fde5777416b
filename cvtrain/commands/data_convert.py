"""`cvtrain data convert`: convert a folder of images in other formats to PNG."""

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
    """The result for one file: its new name, or the error."""

    path: str
    name: str = ""
    is_converted: bool = False
    num_pages: int = 1
    error: DecodeError | None = None


def data_convert(source: str, output: Path | None, *, console: Console) -> None:
    """Write every image in `source` to the same subfolder of `output`.

    Images that the decoder reads are copied. Of other formats, the first picture becomes an upright
    PNG file, with the suffix `.png` after the original name. Other files are listed and left out.

    Args:
        source: the folder to read, which is not changed.
        output: the folder to write (default: `SOURCE-png` beside it).

    Raises:
        ConfigError: one folder contains the other.
        DataError: the source is not a folder, or contains no image that can be converted.
        ResourceError: the folder contains other files, or cannot be written.
        Stopped: on request; nothing is written.
    """
    folder = Path(os.path.realpath(source))
    if not folder.is_dir():
        raise DataError(f"{escape(source)}: is not a folder", "Name the folder of the images.")
    output = output or _beside(Path(source), folder)
    _check_no_overlap(folder, output)
    # Pillow warns of resolutions, names and sizes, which do not matter here.
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
    console.print(
        f"{escape(output)}: {num_converted:,} images converted to PNG, {num_copied:,} copied"
    )
    console.info(f"Next: cvtrain init {shell_quote(output)}")


def _beside(source: Path, folder: Path) -> Path:
    """`SOURCE-png`, relative if `source` is; `folder` is the resolved path of the source."""
    if source.name in ("", ".."):
        return Path(os.path.relpath(folder.with_name(f"{folder.name}-png")))
    return source.with_name(f"{source.name}-png")


def _check_no_overlap(folder: Path, output: Path) -> None:
    real = Path(os.path.realpath(output))
    if real.is_relative_to(folder) or folder.is_relative_to(real):
        raise ConfigError(
            f"--output {escape(output)}: must be outside the folder of images, and not contain it",
            "Name another folder.",
        )


def _files(folder: Path) -> Iterator[str]:
    """The relative paths of regular files in `folder`, except hidden files and those of cvtrain."""
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
        raise DataError(f"{escape(folder)}: contains no files", "Name the folder of the images.")
    names = _names(paths)
    work = partial(_convert, folder=folder, new=new, stop=stop)
    done = []
    with console.task("converting images") as show, ThreadPoolExecutor(num_threads()) as pool:
        for each in pool.map(work, paths, names):
            done.append(each)
            show(len(done), len(paths))
    return done


def _names(paths: Sequence[str]) -> Iterator[str]:
    """A unique name for each converted file."""
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
        console.warning(f"only the first picture of these files was converted: {join_names(pages)}")
    left_out = [(each.path, each.error) for each in done if each.error]
    for path, error in left_out[:_MOST_LISTED]:
        advice = advice_in(source, error.advice)
        console.warning(f"left out: {escape(path)}: {error.message}\n  {advice}")
    if more := left_out[_MOST_LISTED:]:
        console.warning(f"left out: {len(more):,} more")
