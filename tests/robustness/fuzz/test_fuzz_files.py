"""Files of runs, caches and data sets: what was written comes back, or a refusal by name."""

import csv
import io
import json

import pytest
from fuzz_bytes import archives, array_members, damaged, npy, wrong_csv, wrong_json
from fuzz_seeds import MODEL, SEEDS, keras_file, run_file
from fuzz_yaml import yaml_lines
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cvtrain.system.text import csv_cell, csv_text, escape


@given(damaged(SEEDS["checkpoint"]()))
def test_a_damaged_checkpoint_is_refused(child, content):
    child.check("checkpoint", content)


_VALUES = {"identity": {"config": "a" * 64}, "values": {"epoch": 1}}


@given(
    archives(SEEDS["sealed_checkpoint"]()[0])
    | damaged(SEEDS["sealed_checkpoint"]())
    | wrong_json(_VALUES).map(lambda text: array_members(json=text))
)
@example(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}"))  # an array, no archive
@example(b"\x80\x04.")  # a pickle
@example(b"")
def test_a_forged_checkpoint_is_plain_arrays_or_refused(child, content):
    child.check("sealed_checkpoint", content)


@given(damaged(SEEDS["features"]()))
def test_damaged_features_are_set_aside(child, content):
    child.check("features", content)


@given(
    damaged(SEEDS["manifest"]())
    | st.sampled_from(SEEDS["manifest"]())
    .flatmap(lambda seed: wrong_csv(seed.decode()))
    # Surrogates are what UTF-8 cannot say.
    .map(lambda text: text.encode("utf-8", errors="surrogatepass"))
)
@example(b"path,label\n" + b"x" * 300 + b",cat\n")
@example(b"path,label\na\0b,cat\n")
def test_any_manifest(child, content):
    child.check("manifest", content)


@given(damaged(SEEDS["json_lines"]()) | wrong_json({"file_name": "a.jpg", "label": "cat"}))
@example(b"[" * 100_000)
@example(b'{"file_name": "a.jpg", "label": ' + b"1" * 5000 + b"}")
def test_any_json_lines(child, content):
    child.check("json_lines", content if isinstance(content, bytes) else content.encode())


@given(damaged(SEEDS["idx"]()))
def test_any_idx_file(child, content):
    child.check("idx", content)


@given(damaged(SEEDS["weights"]()))
def test_damaged_weights_are_refused(child, content):
    child.check("weights", content)


_ASK = ["Lambda", "os.system", "keras.layers", "keras.src.utils", "function", "get_file"]


@given(
    damaged(SEEDS["model"]())
    | st.builds(
        keras_file,
        wrong_json(MODEL, [*_ASK, {"class_name": "Lambda", "config": {}}, 10**9]),
        damaged(SEEDS["weights"]()),
    )
)
def test_any_model_is_of_layers_of_keras(child, content):
    child.check("model", content)


@given(damaged(SEEDS["arrays"]()) | st.sampled_from(SEEDS["arrays"]()).flatmap(archives))
def test_any_arrays(child, content):
    child.check("arrays", content)


@pytest.fixture(autouse=True, scope="module")
def _seeds():
    run_file()  # Hypothesis does not like it to be made while it draws, at random


@st.composite
def changed_run_files(draw):
    """The name of a file of a run, and other content for it."""
    seed = draw(st.sampled_from(run_file()))
    name, _, sound = seed.partition(b"\n")
    if draw(st.integers(0, 3)) == 3:
        content = draw(damaged([sound]))
    elif name.endswith(b".json"):
        content = draw(wrong_json(json.loads(sound))).encode()
    elif name.endswith(b".csv"):
        content = draw(wrong_csv(sound.decode())).encode("utf-8", errors="surrogatepass")
    else:
        content = draw(yaml_lines()).encode("utf-8")
    return name + b"\n" + content


@given(changed_run_files())
@example(b"config.yaml\na: &a {b: *a}")
@example(b"config.yaml\n" + b"[" * 3000)
def test_any_file_of_a_run_is_read_or_refused(child, content):
    child.check("run_file", content)


@settings(max_examples=settings.default.max_examples // 2)
@given(changed_run_files())
def test_any_run_that_is_read_can_be_shown(child, content):
    child.check("page", content)


_NAMES = st.text() | st.text(st.sampled_from("=+-@\t\r'\"0123456789.eE,\n\x1b\x7f\u202e\udce9 |!"))


@given(_NAMES)
def test_a_printable_name_has_nothing_that_a_terminal_obeys(name):
    assert escape(name).isprintable()
    assert escape(escape(name)) == escape(name)
    if name.isprintable():
        assert escape(name) == name


@given(_NAMES)
@example("-2+3+cmd|' /C calc'!A0")
@example("-1\n")
def test_a_cell_is_no_formula(name):
    cell = csv_cell(name)
    assert cell.isprintable()
    assert not cell.startswith(("=", "+", "@"))
    if cell.startswith("-"):
        float(cell)
        assert set(cell) <= set("0123456789.eE+-")


@given(st.lists(st.lists(_NAMES, min_size=1, max_size=4), max_size=5))
def test_csv_brings_back_every_cell(rows):
    back = list(csv.reader(io.StringIO(csv_text(rows), newline=""), strict=True))
    assert back == [[csv_cell(cell) for cell in row] for row in rows]
