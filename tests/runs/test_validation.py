"""What must hold of a run folder; hostile ones are in tests/robustness/hostile."""

import pytest

from cvtrain.errors import RunError
from cvtrain.runs.record import read_record
from cvtrain.runs.validation import check_no_links, check_split

DECODER = {"resize": "pad", "background": [0, 255, 7]}
RECORD = {"format": 1, "command": "fit", "status": "finished", "started": "2026-11-22"}


def test_a_record_may_lack_what_is_not_known_yet_and_have_more():
    read_record(RECORD, "run.json")
    read_record(
        RECORD
        | {
            "class_names": ["cat", "caf\udce9"],
            "image_size": [180, 4096],
            "decoder": DECODER | {"range": [0, 4095]},
            "data": {"root": "/photos", "digest": "d", "counts": {}},
            "seconds": {"total": 3, "train": 2.5},
            "features": {"pool": {"precision": "bfloat16", "views": 4}},
            "source": {"run": "runs/x", "weights": "w"},
            "of a later version": [None],
        },
        "run.json",
    )


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"image_size": [True, 20]}, "image_size.0"),
        ({"image_size": [16.0, 20]}, "image_size.0"),
        ({"class_names": ["a", None]}, "class_names.1"),
        ({"class_names": ["a", "b", "a"]}, "class_names"),
        ({"data": {"root": ["x"]}}, "data.root"),
        ({"seconds": {"to\x1btal": "3"}}, r"seconds.to\x1btal"),
        ({"decoder": {"resize": "pad", "background": [0, 0]}}, "decoder.background"),
        ({"decoder": {**DECODER, "range": [7, 7]}}, "decoder.range"),
        ({"decoder": {**DECODER, "range": [0, True]}}, "decoder.range"),
        ({"decoder": {**DECODER, "range": [0, 10**9]}}, "decoder.range"),
        ({"decoder": {**DECODER, "range": "all"}}, "decoder.range"),
    ],
)
def test_what_is_wrong_in_a_record_is_named(fields, place):
    with pytest.raises(RunError) as caught:
        read_record(RECORD | fields, "x/run.json")
    assert caught.value.message.startswith(f"x/run.json: {place}: ")
    assert caught.value.message.isprintable()


def test_a_split_names_files_by_split_and_class():
    check_split({"train": {"cat": ["a/b.png", "../caf\udce9.png"], "dog": []}}, "split.json")
    for content in (
        None,
        {"holdout": {}},
        {"test": []},
        {"test": {"cat": "a.png"}},
        {"test": {"cat": [""]}},
        {"test": {"cat": ["a\0"]}},
    ):
        with pytest.raises(RunError, match=r"^split\.json: "):
            check_split(content, "split.json")


def test_files_and_folders_pass_and_links_do_not(tmp_path):
    run = tmp_path / "run"
    (run / "figures").mkdir(parents=True)
    (run / "figures" / "a.png").write_bytes(b"x")
    check_no_links(run)
    (tmp_path / "link").symlink_to(run)
    check_no_links(tmp_path / "link")
    (run / "figures" / "b\x1b.png").symlink_to(run / "figures" / "a.png")
    with pytest.raises(RunError, match=r"b\\x1b\.png: is a link"):
        check_no_links(run)
