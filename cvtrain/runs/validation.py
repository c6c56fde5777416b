"""A run folder may be a stranger's: what must hold of it before a command uses anything in it.

Files in it are read and written by their names. So none may be a link that leads elsewhere, or a
pipe that waits for ever; and what commands take out of `run.json` must be of the types that
docs/run-folder.md gives.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError

from cvtrain.errors import RunError
from cvtrain.system.files import printable


def _text(value: object) -> str:
    # Pydantic's own `str` refuses names that are not UTF-8, and a file may have such a name.
    if not isinstance(value, str):
        raise ValueError(f"must be a text; received {value!r:.80}")
    return value


def _path(value: object) -> str:
    if not _text(value) or "\0" in value:
        raise ValueError(f"must be the path of a file; received {value!r:.80}")
    return value


def _file_name(value: object) -> str:
    if _path(value) in (".", "..") or "/" in value or "\\" in value:
        raise ValueError(f"must be a name without folders; received {value!r:.80}")
    return value


def _range(value: object) -> object:
    is_pair = isinstance(value, list) and len(value) == 2
    if value != "auto" and not (
        is_pair and all(type(each) is int for each in value) and 0 <= value[0] < value[1] <= 65_535
    ):
        raise ValueError(f"must be auto, or two numbers that rise; received {value!r:.80}")
    return value


Text = Annotated[str, PlainValidator(_text)]
FileName = Annotated[str, PlainValidator(_file_name)]
_Path = Annotated[str, PlainValidator(_path)]
_Side = Annotated[int, Field(ge=1, le=4096)]
_Byte = Annotated[int, Field(ge=0, le=255)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Decoder(_Checked):
    resize: Literal["stretch", "crop", "pad"]
    background: Annotated[list[_Byte], Field(min_length=3, max_length=3)]
    range: Annotated[str | list[int], PlainValidator(_range)] = "auto"


class _Data(_Checked):
    root: Text
    digest: Text = ""


class _Source(_Checked):
    run: Text


class _About(_Checked):
    """What `model.keras` says of itself in its metadata."""

    class_names: Annotated[list[Text], Field(min_length=2)]
    image_size: Annotated[list[_Side], Field(min_length=2, max_length=2)]
    decoder: _Decoder


class _Record(_Checked):
    """Of `run.json`, what commands rely on; what a run does not have yet is left out of it."""

    format: int
    command: Text
    status: Text
    started: Text
    name: Text = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    class_names: Annotated[list[Text], Field(min_length=2)] = ["", ""]
    image_size: Annotated[list[_Side], Field(min_length=2, max_length=2)] = [1, 1]
    decoder: _Decoder | None = None
    data: _Data | None = None
    device: Text = ""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    weights_sha256: Text = ""
    source: _Source | None = None
    features: dict[Text, dict[Text, Any]] = {}
    identity: dict[Text, Any] = {}
    metrics: dict[Text, Any] = {}
    mislabels: dict[Text, Any] = {}
    mlflow: dict[Text, Text] = {}
    blocks: list[dict[Text, Any]] = []
    points: list[dict[Text, Any]] = []
    rungs: list[dict[Text, Any]] = []
    estimates: dict[Text, _Seconds] = {}
    seconds: dict[Text, _Seconds] = {}
    versions: dict[Text, Text] = {}


def refuse_links(folder: Path) -> None:
    """Raise RunError where a run folder holds anything but regular files and folders of its own.

    The folder itself may be a link: whoever names it knows where it leads.
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
                        f"{printable(entry.path)}: is {what}, and a run folder holds none",
                        "Put the file itself in its place, or remove it; move a run as a whole.",
                    )


def check_record(record: Any, shown: str) -> None:
    """Check the content of a `run.json`.

    Args:
        record: what its JSON text says.
        shown: how the file is called in an error.

    Raises:
        RunError: a field that commands rely on is missing or of another type.
    """
    with _told(shown):
        _Record.model_validate(record)
    names = record.get("class_names", [])
    if len(set(names)) < len(names):
        raise RunError(f"{shown}: class_names: a name stands in it twice", _ADVICE)


def check_about(content: Any, shown: str) -> None:
    """Check what a model file says of itself, as `check_record` does."""
    with _told(shown):
        _About.model_validate(content)


def check_split(content: Any, shown: str) -> None:
    """Check the content of a `split.json`, as `check_record` does."""
    with _told(shown):
        _SPLIT.validate_python(content)


_SPLIT = TypeAdapter(
    dict[Literal["train", "validation", "test"], dict[Text, list[_Path]]],
    config=ConfigDict(strict=True),
)
_ADVICE = (
    "The file was not written by cvtrain, was edited or is damaged. Restore it from a copy, or "
    "use another run."
)


@contextlib.contextmanager
def _told(shown: str) -> Iterator[None]:
    """Turn what is wrong with the content of a file into a RunError that names the place."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        what = first["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
        raise RunError(
            f"{shown}: {printable(place)[:80]}: {printable(what)[:200].lower()}", _ADVICE
        ) from error
