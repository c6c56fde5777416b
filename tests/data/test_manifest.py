import os

import pytest

from cvtrain.data.manifest import manifest_text, read_manifest
from cvtrain.errors import DataError


@pytest.fixture
def write(tmp_path):
    for name in ("a.png", "b.png", "c, d.png"):
        (tmp_path / name).touch()

    def write(content, name="list.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_reads_lines(write, mark, newline):
    lines = [b"path,label,split", b"a.png,cat,train", b"", b'"c, d.png", dog ,VAL', b"b.png,1,test"]
    assert read_manifest(write(mark + newline.join(lines))) == [
        ("train", "cat", "a.png"),
        ("validation", "dog", "c, d.png"),
        ("test", "1", "b.png"),
    ]


def test_columns_come_in_any_order_and_split_may_be_missing(write):
    assert read_manifest(write("Label,Path\ncat,a.png\n")) == [("", "cat", "a.png")]


def test_labels_have_one_unicode_form(write):
    samples = read_manifest(write("path,label\na.png,caf\u00e9\nb.png,cafe\u0301\n"))
    assert {label for _, label, _ in samples} == {"caf\u00e9"}


def test_all_wrong_lines_are_named(write):
    manifest = write(
        "path,label,split\n"
        "a.png,cat,train\n"
        ",cat,train\n"
        "b.png,,train\n"
        "\n"
        "b.png,cat,trian\n"
        "missing.png,cat,test\n"
        "a.png,cat,test\n"
        "b.png,cat\n"
        "b.png,cat,test,9\n"
        "../,cat,test\n"
    )
    with pytest.raises(DataError) as caught:
        read_manifest(manifest)
    assert [line.removeprefix(str(manifest)) for line in caught.value.message.splitlines()] == [
        ":3: the path is empty",
        ":4: the label is empty",
        ":6: split must be train, validation or test; received: trian",
        ":7: there is no file missing.png",
        ":8: a.png is already in line 2",
        ":9: 2 values for 3 columns",
        ":10: 4 values for 3 columns",
        ":11: there is no file ../",
    ]


def test_many_wrong_lines_are_summed_up(write):
    with pytest.raises(DataError, match="and 80 more"):
        read_manifest(write("path,label\n" + "".join(f"{i}.png,cat\n" for i in range(100))))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "received: nothing"),
        ("a.png,cat\n", "received: a.png,cat"),
        ("path;label\na.png;cat\n", "received: path;label"),
        ("path,label,spilt\n", "received: path,label,spilt"),
        ("path,label,label\n", "received: path,label,label"),
        (b"path,label\n\xff.png,cat\n", "not UTF-8"),
        ('path,label\n"a.png,cat\n', "unexpected end of data"),
        ("path,label\n" + "x" * 200_000 + ",cat\n", "field larger than field limit"),
        ("path,label\na.png,\x1b[31m\n", r"control characters"),
        ("path,label\na\0.png,cat\n", r"there is no file a\\x00.png"),
    ],
)
def test_what_is_no_manifest_is_refused(write, content, what):
    with pytest.raises(DataError, match=what) as caught:
        read_manifest(write(content))
    assert caught.value.message.isprintable()
    assert caught.value.advice


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(DataError, match="not a regular file"):
        read_manifest(tmp_path / "list.csv")


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_manifest(tmp_path / "list.csv")


def test_what_is_written_is_read_back(tmp_path):
    samples = [
        ("train", "caf\xe9, noir", 'a "b", c.png'),
        ("validation", "x", "=formula.png"),
        ("test", "x", "-x.png"),
        ("test", "x", "sub/ lead.png"),
        ("test", "x", " lead.png"),
    ]
    (tmp_path / "sub").mkdir()
    for _, _, path in samples:
        (tmp_path / path).touch()
    (tmp_path / "m.csv").write_text(manifest_text(samples), encoding="utf-8")
    read = read_manifest(tmp_path / "m.csv")
    assert [(split, label) for split, label, _ in read] == [sample[:2] for sample in samples]
    for (_, _, ours), (_, _, theirs) in zip(samples, read, strict=True):
        assert (tmp_path / theirs).samefile(tmp_path / ours)
    for line in (tmp_path / "m.csv").read_text().splitlines():
        assert line[0] not in "=-"


@pytest.mark.parametrize(
    ("label", "path"),
    [("=x", "a"), ("x ", "a"), ("x", "a\n"), ("x", "a "), ("x", "caf\udce9"), ("x", "a\x1b[31m")],
)
def test_what_a_manifest_cannot_say_is_refused(label, path):
    with pytest.raises(DataError, match="cannot stand in a manifest: 1:") as caught:
        manifest_text([("train", "fine", "fine.png"), ("train", label, path)])
    assert caught.value.message.isprintable()
