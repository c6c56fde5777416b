"""Which columns of a manifest are path, label and split: by its header, by config, or by content.

A guess by content is only proposed, in the syntax of a config.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePath

from cvtrain.data.path_resolution import (
    Files,
    PathRule,
    beginning_of,
    explain,
    find_path_rules,
    has_image_suffix,
    same_number,
)
from cvtrain.data.scan import join_names
from cvtrain.system.text import escape, shell_quote

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
"""Common names of splits -> names in cvtrain."""

TRUTHS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
"""Values of a one-hot column."""

Name = str | int
"""Name of a column in the header; its number from 1 if there is no header."""

_Table = Mapping[Name, Sequence[str]]
_ROBOFLOW = "_classes.csv"
_PATHS = (
    *("path", "filepath", "file_path", "file_name", "filename", "file", "image_path", "img_path"),
    *("image", "image_name", "img_name", "img", "image_id", "imageid", "image index", "id", "name"),
)
_LABELS = (
    *("label", "labels", "class", "classes", "class_name", "label_name", "category", "target"),
    *("breed", "species", "diagnosis", "dx", "finding labels", "tag", "tags"),
)
_MOST_RULES = 3
_NAME_THEM = "Name the columns in the first line, separated by commas."
_PLAIN = re.compile(r"\.?[^\W\d]\w*(?:[ ./+-]+\w+)*/?|\.{0,2}(?:/[\w.-]+)+/?|\.\.?")
_NO_TEXTS = {"null", "true", "false", "yes", "no", "on", "off", ".inf", ".nan"}
_NUMBER = re.compile(r"[-+]?[\d.,]+")


@dataclass(frozen=True)
class Columns:
    """The columns of a manifest, and the rule from its paths to files.

    Attributes:
        path: Column of the path of the image file.
        label: Column of the class, or several one-hot columns named as the classes.
        split: Column of the split; None: the column `split` if there is one.
        folder, strip, suffix: As in `PathRule`.
    """

    path: Name = "path"
    label: Name | tuple[str, ...] = "label"
    split: Name | None = None
    folder: str | tuple[str, ...] = ""
    strip: str = ""
    suffix: str = ""

    @property
    def rule(self) -> PathRule:
        """The rule from paths to files."""
        return PathRule(self.folder, self.strip, self.suffix)

    def with_rule(self, rule: PathRule) -> "Columns":
        """The same columns with another rule."""
        return Columns(self.path, self.label, self.split, *rule)

    def as_yaml(self) -> str:
        """Config syntax on one line, such as `{path: id, label: breed, suffix: .jpg}`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if (self.path, self.label) == ("path", "label") and any(self.rule):
            del values["path"], values["label"]
        texts = (f"{key}: {_as_yaml(value)}" for key, value in values.items() if value)
        return "{" + ", ".join(texts) + "}"

    def as_options(self) -> str:
        """Options of the commands that set these columns."""
        text = self.as_yaml()
        return (
            f"--set {shell_quote(f'data.columns={text}')} "
            f"(data split, evaluate and init: --columns {shell_quote(text)})"
        )


@dataclass(frozen=True)
class Proposal:
    """A guess of the columns of a manifest.

    Attributes:
        columns: The columns; None: nothing in the manifest looks like images and their classes.
        is_certain: Whether there is no other possibility, and the files exist.
        remarks: Unusual properties of the manifest.
        advice: Advice to the user if there are no columns.
    """

    columns: Columns | None = None
    is_certain: bool = False
    remarks: tuple[str, ...] = ()
    advice: str = ""


def usual_columns(file: PurePath, header: Sequence[str]) -> Columns | None:
    """The columns of a standard header (cvtrain, Hugging Face or Roboflow); else None."""
    names = [name.strip() for name in header]
    known = sorted(name.lower() for name in names)
    if known in (["label", "path"], ["label", "path", "split"]):
        return Columns()
    if known.count("file_name") == known.count("label") == 1:
        return Columns(path="file_name")
    if file.name == _ROBOFLOW and names[:1] == ["filename"] and len(names) > 2:
        return Columns(path="filename", label=tuple(names[1:]))
    return None


def propose_columns(files: Files, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Proposal:
    """Guess the columns of a manifest: one has files, another one few different values.

    Args:
        files: The files in its folder.
        header: Its first line.
        rows: The other lines.
    """
    names = [name.strip() for name in header]
    remarks: list[str] = []
    table = _by_column(names, rows)
    path, rules = _path_of(files, table)
    if any(map(has_image_suffix, names)) or (rules and files.find(str(path), rules[0])):
        remarks.append("there is no header: the first line names an image")
        table = _by_column(range(1, len(header) + 1), [header, *rows])
        path, rules = _path_of(files, table)
    elif len(names) == 1 and " " in names[0]:
        remarks.append("the columns are separated by spaces")
    elif names and (not names[0] or names[0].startswith("Unnamed: ")):
        remarks.append("the first column has no name: pandas has written its index, too")
    label, is_only = _label_of({k: v for k, v in table.items() if k != path}, remarks)
    if path is None or label is None:
        advice = _NAME_THEM if path is None else "Add a column of labels, one for each image."
        return Proposal(remarks=tuple(remarks), advice=advice)
    if not rules and (numbers := _numbers_as_names(files, table[path])):
        return numbers
    remarks += _doubts(table, path, label, rules)
    split = next((k for k, v in table.items() if k not in (path, label) and _are_splits(v)), None)
    columns = Columns(path, label, None if str(split).lower() == "split" else split)
    is_certain = is_only and _are_certain(files, table[path], rules)
    return Proposal(
        columns.with_rule(rules[0] if rules else PathRule(folder="FOLDER")),
        is_certain,
        tuple(remarks),
    )


def propose_rule(files: Files, columns: Columns, missing: Sequence[tuple[str, str]]) -> Proposal:
    """Guess where the files are that a manifest names wrongly.

    Args:
        files: The files in its folder.
        columns: The columns that it was read with.
        missing: Path and label of the lines whose file does not exist.
    """
    paths, labels = zip(*missing, strict=True)
    if rules := find_path_rules(files, paths):
        remarks = (*explain(paths[0], rules[0]), *_also_in(rules))
        is_certain = _are_certain(files, paths, rules)
        return Proposal(columns.with_rule(rules[0]), is_certain, remarks)
    if isinstance(columns.label, Name) and (rules := find_path_rules(files, labels)):
        swapped = Columns(columns.label, columns.path, columns.split, *rules[0])
        remark = f"the files are in the column {escape(columns.label)}"
        return Proposal(swapped, remarks=(remark,))
    if numbers := _numbers_as_names(files, paths):
        return numbers
    elsewhere = columns.with_rule(PathRule("FOLDER", beginning_of(paths), columns.suffix))
    return Proposal(
        remarks=(
            *explain(paths[0], None),
            "no files with these names are in this folder or near it",
        ),
        advice=f"If they are in another folder: {elsewhere.as_options()}",
    )


def _by_column(names: Iterable[Name], rows: Sequence[Sequence[str]]) -> _Table:
    """The values of each column with a name."""
    names = list(names)
    whole = [row for row in rows if len(row) == len(names)]
    return {name: [row[i].strip() for row in whole] for i, name in enumerate(names) if name}


def _path_of(files: Files, table: _Table) -> tuple[Name | None, list[PathRule]]:
    """The column whose values are files, and rules to find them; else one named like it."""
    ranked = sorted(table, key=lambda name: _rank(name, _PATHS))
    for name in ranked:
        values = [value for value in table[name] if value]
        may_be = _rank(name, _PATHS) < len(_PATHS) or 2 * len(set(values)) > len(values)
        if may_be and (rules := find_path_rules(files, values)):
            return name, rules
    named = [name for name in ranked if _rank(name, _PATHS) < len(_PATHS)]
    named += [name for name, values in table.items() if any(map(has_image_suffix, values))]
    return next(iter(named), None), []


def _label_of(table: _Table, remarks: list[str]) -> tuple[Name | tuple[str, ...] | None, bool]:
    """The column of labels, or the one-hot columns, and whether there is no other candidate."""
    named = sorted(
        (name for name in table if _rank(name, _LABELS) < len(_LABELS)),
        key=lambda name: _rank(name, _LABELS),
    )
    if named:
        return named[0], len(named) == 1
    flags = [
        k for k, values in table.items() if values and {v.lower() for v in values} <= {*TRUTHS}
    ]
    few = [k for k, values in table.items() if k not in flags and _repeat(values)]
    if len(flags) > 1:
        lines = zip(*(table[name] for name in flags), strict=True)
        most = max(sum(TRUTHS[value.lower()] for value in line) for line in lines)
        if most == 1 and all(isinstance(name, str) for name in flags):
            return tuple(map(str, flags)), not few
        if most > 1:
            remarks.append("some lines have several ones: several labels are not supported")
            flags = []
    few += flags
    if not few:
        remarks.append("no column has few different values, as labels have")
        return None, False
    are_words = not all(map(_NUMBER.fullmatch, table[few[0]]))
    return few[0], len(few) == 1 and are_words


def _numbers_as_names(files: Files, paths: Sequence[str]) -> Proposal | None:
    """Advice if a program converted names to numbers and removed leading zeros; else None."""
    path = next(filter(None, paths), "")
    if not (file := same_number(files, path)):
        return None
    remark = f"{escape(path)} has been taken for a number, there is {escape(file)}"
    advice = "Write the numbers as texts; pandas keeps them so with read_csv(..., dtype=str)."
    return Proposal(remarks=(remark,), advice=advice)


def _doubts(
    table: _Table,
    path: Name,
    label: Name | tuple[str, ...],
    rules: Sequence[PathRule],
) -> list[str]:
    """Possible problems of a manifest whose columns are known."""
    doubts = _also_in(rules)
    if not rules:
        doubts.append(f"the files of its column {escape(path)} are not in it or near it")
    values = [value for value in table[path] if value]
    if len(set(values)) < len(values):
        doubts.append("some images have several lines, but only one each is allowed")
    if isinstance(label, Name) and (several := [v for v in table[label] if "|" in v]):
        doubts.append(f"{escape(several[0])} are several labels, which is not supported")
    return doubts


def _also_in(rules: Sequence[PathRule]) -> list[str]:
    others = join_names((str(rule.folder or ".") for rule in rules[1:]), _MOST_RULES)
    return [f"files of the same names are also in {others}"] if others else []


def _are_certain(files: Files, paths: Sequence[str], rules: Sequence[PathRule]) -> bool:
    """Whether exactly one rule finds the files, below the folder of the manifest."""
    distinct = len({*paths}) == len(paths)
    return distinct and len(rules) == 1 and files.are_inside(paths, rules[0])


def _repeat(values: Sequence[str]) -> bool:
    """Whether there are few different values, as in a column of classes."""
    distinct = set(values)
    return len(distinct) > 1 and 2 * len(distinct) <= len(values) and not _are_splits(values)


def _are_splits(values: Sequence[str]) -> bool:
    return bool(values) and {value.lower() for value in values} <= {*SPLIT_NAMES}


def _rank(name: Name, known: Sequence[str]) -> int:
    """Index of a name among the known names; `len(known)` for other names."""
    lower = str(name).lower()
    return known.index(lower) if lower in known else len(known)


def _as_yaml(value: Name | tuple[str, ...]) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_yaml, value))}]"
    is_plain = _PLAIN.fullmatch(value) and value.lower() not in _NO_TEXTS
    return value if is_plain else escape(json.dumps(value, ensure_ascii=False))
