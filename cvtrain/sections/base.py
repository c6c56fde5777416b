"""The base class of all sections of a config, and the types of their values."""

import ast
import inspect
import itertools
import re
import warnings
from typing import Annotated, Any, Literal, TypeGuard, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

NEW_RUN = "new run"
"""Marks a key whose change makes another run: what was computed so far is of no use with it. Those
are variables of other shapes, a best value of something else, other rows of a table."""

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0)]


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _height_and_width(value: Any) -> tuple[int, int]:
    pair = [value, value] if _is_whole(value) else value
    if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_whole, pair))):
        raise ValueError("must be [height, width] in whole pixels, or one number for a square")
    if not all(4 <= side <= 4096 for side in pair):
        raise ValueError("must be between 4 and 4096 pixels")
    return (pair[0], pair[1])


def _range(value: Any) -> str | tuple[int, int]:
    if value == "auto":
        return "auto"
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))):
        raise ValueError("must be auto, or [low, high] in whole numbers")
    if not 0 <= value[0] < value[1] <= 65_535:
        raise ValueError("must rise, and lie between 0 and 65535")
    return (value[0], value[1])


def _per_stage(value: Any) -> int | tuple[int, ...]:
    """One number for all stages, or a tuple with one per stage."""
    is_list = isinstance(value, list | tuple)
    values = value if is_list else [value]
    if not values or not all(_is_whole(v) and v >= 1 for v in values):
        raise ValueError("must be a whole number of at least 1, or a list with one per stage")
    return tuple(values) if is_list else value


def _class_names(value: Any) -> tuple[str, ...]:
    """Folders of digits may be written as numbers: [0, 1, 2]."""
    written = value if isinstance(value, list) else []
    names = tuple(str(name) if _is_whole(name) else name for name in written)
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ValueError("must be a list of at least two class names")
    return names


def _column(value: Any) -> int | str:
    if (isinstance(value, str) and value != "") or (_is_whole(value) and value >= 1):
        return value
    raise ValueError("must be the name of a column or, where there is no header, its number from 1")


def _label_columns(value: Any) -> int | str | tuple[str, ...]:
    """Several columns are of one class each, and named like it."""
    if not isinstance(value, list):
        return _column(value)
    names = tuple(str(name) if _is_whole(name) else name for name in value)
    if len({*map(str, names)}) < max(2, len(names)) or not all(isinstance(n, str) for n in names):
        raise ValueError("must be a column, or a list of at least two, one for each class")
    return names


def _folders(value: Any) -> str | tuple[str, ...]:
    folders = value if isinstance(value, list) else [value]
    if not all(isinstance(folder, str) for folder in folders):
        raise ValueError("must be a folder, or a list of folders")
    return tuple(folders) if isinstance(value, list) else value


def _suffix(value: str) -> str:
    if value and not re.fullmatch(r"\.(\w+|\*)", value):
        raise ValueError("must be a suffix with its dot, such as .jpg, or .* for any")
    return value


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression that `pattern` is.

    Raises:
        ValueError: it is none, or it has not exactly one group.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # its meaning is going to change
            compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        raise ValueError(
            f"must be a regular expression such as (cat|dog)\\. for cat.12.jpg ({error})"
        ) from error
    if compiled.groups != 1:
        raise ValueError(
            "must have one group in parentheses, as (cat|dog)\\. has for cat.12.jpg; "
            f"it has {compiled.groups} (those for alternatives alone are written (?:...))"
        )
    return compiled


def _label_pattern(value: str) -> str:
    compile_pattern(value)
    return value


# What a YAML may say stands beside what it becomes, for the schema that editors read.
Side = Annotated[int, Field(ge=4, le=4096)]
ImageSize = Annotated[
    tuple[int, int],
    BeforeValidator(_height_and_width, json_schema_input_type=Side | tuple[Side, Side]),
]
Value = Annotated[int, Field(ge=0, le=65_535)]
Range = Annotated[
    Literal["auto"] | tuple[int, int],
    BeforeValidator(_range, json_schema_input_type=Literal["auto"] | tuple[Value, Value]),
]
OnePerStage = Annotated[tuple[Positive, ...], Field(min_length=1)]
PerStage = Annotated[
    int | tuple[int, ...],
    BeforeValidator(_per_stage, json_schema_input_type=Positive | OnePerStage),
]
ClassNames = Annotated[
    tuple[str, ...],
    BeforeValidator(
        _class_names,
        json_schema_input_type=Annotated[tuple[str | int, ...], Field(min_length=2)],
    ),
]
ColumnName = Annotated[int | str, BeforeValidator(_column, json_schema_input_type=Positive | str)]
LabelColumns = Annotated[
    int | str | tuple[str, ...],
    BeforeValidator(
        _label_columns,
        json_schema_input_type=Positive
        | str
        | Annotated[tuple[str | int, ...], Field(min_length=2)],
    ),
]
Folders = Annotated[
    str | tuple[str, ...], BeforeValidator(_folders, json_schema_input_type=str | tuple[str, ...])
]
Suffix = Annotated[str, AfterValidator(_suffix)]
LabelPattern = Annotated[str, AfterValidator(_label_pattern)]
Byte = Annotated[int, Field(ge=0, le=255)]


class Section(BaseModel):
    """Base of all sections: immutable, typed strictly, unknown keys are errors."""

    # Built when first used: building all sections takes time, and mistakes are reported fast.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True
    )


def sections_in(annotation: Any) -> list[type[Section]]:
    """The sections that a field may hold, in a list or as one of several kinds, too."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_in(part)]


def field_docs(section: type[BaseModel]) -> dict[str, str]:
    """The docstring of each field of a model, inherited ones first.

    Pydantic can read them too (`use_attribute_docstrings`), but then every command pays for it.
    """
    inherited = section.__base__
    docs = field_docs(inherited) if inherited and inherited is not BaseModel else {}
    (definition,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            docs[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(below.value))
    return docs
