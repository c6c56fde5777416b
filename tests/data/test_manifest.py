import os

import pytest

from cvtrain.data.columns import Columns
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
        read_manifest(write("path,label\n" + "".join(f"{i}.png,\n" for i in range(100))))


ABC = [("", "cat", "a.png"), ("", "dog", "b.png"), ("", "cat", "c, d.png")]
LINES = {"a.png": "cat", "b.png": "dog", "c, d.png": "cat"}


@pytest.mark.parametrize(
    ("columns", "content"),
    [
        (Columns("id", "breed"), ("more,ID, breed ", '1,"{}",{}')),
        (Columns("id", "breed", suffix=".png"), ("id,breed", '"{}",{}')),
        (Columns(1, 2), (None, '"{}",{}')),
        (Columns(1, 3), (None, '"{}",9,{}')),
        (Columns(strip="C:\\x\\"), ("path,label", '"C:/x/{}",{}')),
        (Columns(label=("Cat", "DOG")), ("path,cat,dog", '"{}",{}')),
        (Columns(label=("Cat", "DOG")), ("path,x,cat,dog", '"{}",9,{}')),
    ],
)
def test_columns_say_what_is_what(write, columns, content):
    header, line = content
    has_ones = isinstance(columns.label, tuple)
    values = {"cat": "1,0", "dog": "0.0,1.0"} if has_ones else {"cat": "cat", "dog": "dog"}
    lines = [line.format(path, values[label]) for path, label in LINES.items()]
    samples = read_manifest(write("\n".join([*([header] if header else []), *lines])), columns)
    names = {"cat": "Cat", "dog": "DOG"} if has_ones else {"cat": "cat", "dog": "dog"}
    assert samples == [(split, names[label], path) for split, label, path in ABC]


def test_a_split_may_be_called_anything(write):
    manifest = write("path,label,fold\na.png,cat,val\nb.png,dog,train\n")
    expected = [("validation", "cat", "a.png"), ("train", "dog", "b.png")]
    assert read_manifest(manifest, Columns(split="fold")) == expected
    manifest = write("a.png,cat,val\nb.png,dog,train\n")
    assert read_manifest(manifest, Columns(1, 2, 3)) == expected
    assert [split for split, *_ in read_manifest(manifest, Columns(1, 2))] == ["", ""]


def test_ones_that_are_no_single_label_are_named(write):
    manifest = write(
        "path,cat,dog\na.png,1,0\nb.png,1,1\na.png,0,0\nb.png,0.4,0.6\nb.png,,1\nb.png,True,FALSE\n"
    )
    with pytest.raises(DataError) as caught:
        read_manifest(manifest, Columns(label=("cat", "dog")))
    assert [line.removeprefix(str(manifest)) for line in caught.value.message.splitlines()] == [
        ":3: cat, dog are 1, and several labels are not supported",
        ":4: no class has a 1",
        ":5: cat must be 0 or 1; received: 0.4",
        ":6: cat must be 0 or 1; received: nothing",
    ]


@pytest.mark.parametrize("joint", ["|", ";", ","])
def test_joined_labels_are_no_class(write, joint):
    manifest = write(f'path,label\na.png,cat\nb.png,dog\n"c, d.png","cat{joint} dog"\n')
    with pytest.raises(DataError, match=r":4: cat.* dog are several labels, which is not support"):
        read_manifest(manifest)
    manifest = write(f'path,label\na.png,cat\nb.png,dog\n"c, d.png","cat{joint} large"\n')
    assert len(read_manifest(manifest)) == 3  # a name with a comma in it


@pytest.mark.parametrize(
    ("columns", "what", "advice"),
    [
        (
            Columns("id", "breeds"),
            "no column breeds; the columns are id, breed, Breed",
            "mean breed?",
        ),
        (Columns("id", "BREED"), "2 columns are called BREED", "or numbers"),
        (Columns(1, 4), "no column 4", "or numbers from 1"),
        (Columns("id", "breed", "split"), "no column split", "or numbers"),
        (Columns("id", ("breed", "cat")), "no column cat", "or numbers"),
    ],
)
def test_columns_that_are_not_there_are_named(write, columns, what, advice):
    with pytest.raises(DataError, match=what) as caught:
        read_manifest(write("id,breed,Breed\na.png,cat,x\n"), columns)
    assert advice in caught.value.advice


def test_another_spelling_is_read_and_told(write, tmp_path):
    (tmp_path / "Sub").mkdir()
    (tmp_path / "Sub" / "x.PNG").touch()
    notes = []
    manifest = write("path,label\na.png,cat\nsub\\x.png,dog\n")
    assert read_manifest(manifest, notes=notes)[1] == ("", "dog", "Sub/x.PNG")
    assert notes == [
        "list.csv: 1 paths are spelled differently from their files (backslashes): "
        "sub\\x.png is Sub/x.PNG"
    ]
    with pytest.raises(DataError, match=r":3: a\.png is already in line 2"):
        read_manifest(write("path,label\na.png,cat\nA.png,dog\n"))


def test_a_few_missing_files_are_listed_and_many_are_explained_once(write):
    lines = [f"{i}.png,cat" for i in range(19)]
    with pytest.raises(DataError) as caught:
        read_manifest(write("\n".join(["path,label", "a.png,cat", "b.png,dog", *lines[:17]])))
    assert caught.value.message.count("there is no file") == 17
    with pytest.raises(DataError, match=r"19 of the 21 files are not there, such as 0\.png in"):
        read_manifest(write("\n".join(["path,label", "a.png,cat", "b.png,dog", *lines])))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "received: nothing"),
        ("a.png,cat\n", "received: a.png,cat"),
        ("path label\na.png cat\n", "received: path label; the columns are separated by spaces"),
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
    with pytest.raises(DataError, match="cannot be written to a manifest: 1:") as caught:
        manifest_text([("train", "fine", "fine.png"), ("train", label, path)])
    assert caught.value.message.isprintable()
