"""Tables, against Python's own csv and json."""

import csv
import io
import json

import pytest

from cvtrain.data.tables import read_rows
from cvtrain.errors import DataError

ROWS = [["path", "label"], ["a, b.png", 'the "cat"'], ["c;d|e.png", "two\nlines"], ["f.png", ""]]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_csv(separator=",", newline="\n"):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=newline).writerows(ROWS)
    return text.getvalue()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("before", ["", "\ufeff", "sep={}\n", "\ufeffsep={}\r\n", '"sep={}"\n'])
def test_any_separator_is_read(tmp_path, separator, newline, before):
    text = before.format(separator) + as_csv(separator, newline)
    assert [row for _, row in read_rows(write(tmp_path / "t.csv", text))] == ROWS


def test_what_excel_says_wins_over_what_stands_more_often(tmp_path):
    path = write(tmp_path / "t.csv", "sep=;\na,b,c;d,e,f\n")
    assert list(read_rows(path)) == [(2, ["a,b,c", "d,e,f"])]


def test_separators_in_quotes_do_not_count(tmp_path):
    path = write(tmp_path / "t.csv", '"a;b;c;d",label\n')
    assert list(read_rows(path)) == [(1, ["a;b;c;d", "label"])]


def test_lines_are_counted_as_an_editor_does(tmp_path):
    path = write(tmp_path / "t.csv", "\nsep,x\n\na,b\n")
    assert [line for line, _ in read_rows(path)] == [2, 4]


OBJECTS = [
    {"file_name": "ä.png", "label": "cat", "boxes": [1, 2]},
    {"label": 3, "file_name": "b.png", "more": 1},
    {"file_name": None, "label": True},
]


def test_json_lines_have_their_keys_as_header(tmp_path):
    text = "\n\n".join(json.dumps(each, ensure_ascii=False) for each in OBJECTS)
    assert list(read_rows(write(tmp_path / "t.jsonl", text))) == [
        (1, ["file_name", "label", "boxes"]),
        (1, ["ä.png", "cat", "[1, 2]"]),
        (3, ["b.png", "3", ""]),
        (5, ["", "true", ""]),
    ]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("t.csv", b"a,b\n\xff\n", "t.csv:1: not UTF-8"),
        ("t.csv", 'a,b\n"c,d\n', "t.csv:2: unexpected end of data"),
        ("t.jsonl", b'{"a": "\xff"}\n', "t.jsonl:1: not UTF-8"),
        ("t.jsonl", '{"a": 1}\n[1]\n', "t.jsonl:2: not an object"),
        ("t.jsonl", '{"a": 1}\n\n{"a"', "t.jsonl:3: not an object"),
        ("t.jsonl", "[" * 100_000, "t.jsonl:1: not an object"),
        ("t.jsonl", '{"a": ' + "1" * 5000 + "}", "t.jsonl:1: not an object"),
        ("t.jsonl", '{"a": "' + "x" * 2**20 + '"}', "t.jsonl:1: not an object"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, name, content, what):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=what):
        list(read_rows(path))
