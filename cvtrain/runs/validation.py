"""Validate a run folder, which may come from someone else, before a command uses it.

Files in it are read and written by their names. So none may be a link that leads elsewhere or a
pipe that blocks, and the fields of `run.json` must have the types in docs/run-folder.md.
"""

import os
import stat
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PlainValidator, TypeAdapter, ValidationError

from cvtrain.errors import RunError
from cvtrain.system.text import escape


def _text(value: object) -> str:
    """Any text. Pydantic's own `str` refuses what is not UTF-8, and a file may have such a name."""
    if not isinstance(value, str):
        raise ValueError(f"must be a text; received {value!r:.80}")
    return value


def _path(value: object) -> str:
    path = _text(value)
    if not path or "\0" in path:
        raise ValueError(f"must be the path of a file; received {value!r:.80}")
    return path


def _file_name(value: object) -> str:
    name = _path(value)
    if name in (".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"must be a name without folders; received {value!r:.80}")
    return name


Text = Annotated[str, PlainValidator(_text)]
FileName = Annotated[str, PlainValidator(_file_name)]
_Path = Annotated[str, PlainValidator(_path)]
_SPLIT = TypeAdapter(
    dict[Literal["train", "validation", "test"], dict[Text, list[_Path]]],
    config=ConfigDict(strict=True),
)


class JsonObject(BaseModel):
    """An object in a JSON file of a run folder; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


Kind = TypeVar("Kind", bound=JsonObject)


def check_no_links(folder: Path) -> None:
    """Raise RunError if a run folder contains anything but regular files and folders.

    The folder itself may be a link, because the user named it.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                kind = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(kind):
                    waiting.append(entry.path)
                elif not stat.S_ISREG(kind):
                    what = "a link" if stat.S_ISLNK(kind) else "neither a file nor a folder"
                    raise RunError(
                        f"{escape(entry.path)}: is {what}, and a run folder holds none",
                        "Put the file itself in its place, or remove it; move a run as a whole.",
                    )


def check_split(content: object, shown: str) -> None:
    """Check the content of a `split.json`; RunError names the first mistake."""
    try:
        _SPLIT.validate_python(content)
    except ValidationError as error:
        raise _first_of(error, shown) from error


def checked(kind: type[Kind], content: object, shown: str) -> Kind:
    """The content of a JSON file as `kind`; RunError names the first mistake.

    Args:
        shown: the name of the file in an error.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _first_of(error, shown) from error


def _first_of(error: ValidationError, shown: str) -> RunError:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "its content"
    what = first["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
    return RunError(
        f"{shown}: {escape(place)[:80]}: {escape(what)[:200].lower()}",
        "The file was not written by cvtrain, was edited or is damaged. Restore it from a copy, or "
        "use another run.",
    )
