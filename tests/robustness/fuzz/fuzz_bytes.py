"""Strategies for bytes: sound files that were damaged, and structured ones with wrong values."""

import copy
import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

EXTREME = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]
"""Numbers at which sizes and counts overflow."""

WRONG_VALUES = [
    *(None, True, -1, 0, 0.5, 10**30, -1e308, 1e308, float("nan"), float("inf")),
    *("", "x" * 999, "\x1b[31m", "a\0b", "../..", "/etc/passwd", "\ud800", "=1+1", "{{7*7}}"),
    *([], {}, [[]], [None], {"": ""}, "2026-11-22", "<script>"),
]
"""What a field of a JSON or YAML file may be instead."""


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of `seeds` after a few edits as a bad disk or a bad person makes them."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(content)))
        end = start + draw(st.integers(1, 64))
        match draw(st.sampled_from(["flip", "number", "insert", "delete", "cut", "repeat"])):
            case "flip" if start < len(content):
                content[start] ^= 1 << draw(st.integers(0, 7))
            case "number":
                size, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(ORDERS))
                number = draw(st.sampled_from(EXTREME)) % 256**size
                content[start : start + size] = number.to_bytes(size, order)
            case "insert":
                content[start:start] = draw(st.binary(max_size=16))
            case "delete":
                del content[start:end]
            case "cut":
                del content[start:]
            case "repeat":
                content[start:start] = content[start:end] * draw(st.integers(1, 40))
    return bytes(content)


ORDERS = ["little", "big"]


@st.composite
def wrong_json(draw: st.DrawFn, sound: Any, more: Sequence[Any] = ()) -> str:
    """JSON of `sound` after one to three of its values were replaced, renamed or removed.

    Args:
        more: values to put in, besides `WRONG_VALUES`.
    """
    values = st.sampled_from([*WRONG_VALUES, *more])
    content = {"": copy.deepcopy(sound)}  # so that the whole has a place too
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(content))
        container, key = places[draw(st.integers(0, len(places) - 1))]
        action = draw(st.sampled_from(["replace", "replace", "remove", "rename", "deepen"]))
        if action == "replace":
            container[key] = copy.deepcopy(draw(values))
        elif action == "deepen":
            for _ in range(draw(st.sampled_from([1, 5, 300]))):
                container[key] = [container[key]]
        elif container is not content and action == "remove":
            del container[key]
        elif isinstance(container, dict) and container is not content:
            container[str(draw(values))] = container.pop(key)
    return json.dumps(content[""])


def _places(container: Any) -> Any:
    keys = container if isinstance(container, dict) else range(len(container))
    for key in list(keys):
        yield container, key
        if isinstance(container[key], dict | list):
            yield from _places(container[key])


@st.composite
def wrong_csv(draw: st.DrawFn, sound: str) -> str:
    """A CSV text after some of its cells or rows were replaced, removed or repeated."""
    rows = [line.split(",") for line in sound.splitlines()]
    for _ in range(draw(st.integers(1, 4))):
        if not rows:
            break
        row = rows[draw(st.integers(0, len(rows) - 1))]
        cell = draw(st.integers(0, len(row)))
        match draw(st.sampled_from(["cell", "cell", "cut", "add", "remove", "column"])):
            case "cell" if cell < len(row):
                value = draw(st.sampled_from(WRONG_VALUES) | st.text(max_size=4))
                row[cell] = str(value)
            case "cut":
                del row[cell:]
            case "add":
                row.insert(cell, "1")
            case "remove":
                rows.remove(row)
            case "column":
                for each in rows:
                    del each[cell : cell + draw(st.integers(0, 1)) + 1]
    return "\n".join(",".join(row) for row in rows)


@st.composite
def archives(draw: st.DrawFn, sound: bytes) -> bytes:
    """An .npz like `sound` whose members are damaged, lacking, doubled, or compressed."""
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    content = io.BytesIO()
    compression = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, member in draw(st.permutations(members)):
            match draw(st.sampled_from(["keep", "keep", "damage", "claim", "drop", "rename"])):
                case "damage":
                    member = draw(damaged([member]))
                case "claim":
                    member = npy(draw(st.sampled_from(CLAIMS)), member)
                case "drop":
                    continue
                case "rename":
                    name = draw(st.sampled_from(["../x.npy", "json", "x.txt", "\x1b.npy"]))
            if name not in archive.namelist():
                archive.writestr(name, member)
    return content.getvalue()


CLAIMS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (500000000,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (99999999999,)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
    "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': ()}",
    "{'descr': '<f4', 'fortran_order': 1, 'shape': (-1,)}",
    "{'descr': '<f4', 'shape': " + "(" * 300 + ")" * 300 + "}",
]
"""Headers of .npy files that promise what is not there, or should not be."""


def npy(header: str, content: bytes = b"") -> bytes:
    """A .npy file with this header."""
    text = (header + "\n").encode("latin-1")
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + content


def array_members(**arrays: Any) -> bytes:
    """An .npz, stored."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()
