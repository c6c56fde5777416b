"""What is fuzzed: a target takes any bytes, and fails where cvtrain breaks a promise about them.

Hypothesis feeds these functions in the tests beside this file, libFuzzer in `campaign.py`. A broken
promise is an AssertionError, or whatever else gets out: an error that no user should see.
"""

import functools
import hashlib
import json
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fuzz_seeds
import numpy as np
from fuzz_runs import read_all, show_all

from cvtrain.config import dump_config, load_config, yaml
from cvtrain.config.loader import config_for_source
from cvtrain.data.array_files import load_npz
from cvtrain.data.idx import load_idx
from cvtrain.data.labels import label_in_name
from cvtrain.data.manifest import (
    SPLIT_NAMES,
    Columns,
    UnreadManifest,
    manifest_text,
    read_manifest,
)
from cvtrain.errors import ConfigError, CvtrainError, DataError, RunError
from cvtrain.features.store import FeatureStore
from cvtrain.images.decode import MAX_JPEG_PIXELS, MAX_PIXELS, Decoded, DecodeError, Decoder
from cvtrain.models.keras_file import check_keras_file
from cvtrain.models.weights import load_weights
from cvtrain.runs.run import Run
from cvtrain.sections.base import compile_pattern
from cvtrain.training.checkpoint import Checkpoints, Snapshot

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def yaml_text(content: bytes) -> None:
    """A document of bounded size whose values know their lines, or a YamlError with the line."""
    text = content.decode("utf-8", errors="replace")
    num_lines = len(_LINE_BREAK.findall(text)) + 1
    try:
        document = yaml.load(text)
    except yaml.YamlError as error:
        _check_place(error, num_lines)
        return
    assert all(1 <= line <= num_lines for line in document.lines.values())
    values = list(_values_in(document.value))
    assert len(values) <= yaml.MAX_VALUES
    assert sum(len(value) for value in values if isinstance(value, str)) <= yaml.MAX_BYTES
    json.dumps(document.value)


def config(content: bytes) -> None:
    """A config that survives being written and read again, or mistakes that name their lines."""
    path = _put("config.yaml", content)
    try:
        accepted = load_config(path)
    except ConfigError as error:
        _check_told(error)
        _check_lines(error, re.compile(rf"{re.escape(str(path))}:(\d+: | is empty$)|and \S+ more$"))
        return
    again = _put("again.yaml", dump_config(accepted).encode())
    assert load_config(again) == accepted


def override(content: bytes) -> None:
    """A `--set`: a config that survives being written, or a mistake that names the option."""
    try:
        accepted = config_for_source("digits", [content.decode("utf-8", errors="replace")])
    except ConfigError as error:
        _check_told(error, "--set ")
        return
    again = _put("again.yaml", dump_config(accepted).encode())
    assert load_config(again) == accepted


def image(content: bytes) -> None:
    """Pixels of the size that was asked for, without a word on the terminal, or a DecodeError."""
    for decoder in (
        Decoder((7, 5)),
        Decoder((16, 16), "crop", (0, 128, 255)),
        Decoder((3, 40), "pad", range=(7, 5000)),
    ):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            decoded = _decoded(decoder, content)
        assert not said, [str(each.message) for each in said]
        if decoded is not None:
            assert decoded.pixels.shape == (*decoder.size, 3)
            assert decoded.pixels.dtype == np.uint8
            assert decoded.format in ("JPEG", "PNG", "BMP", "GIF", "WEBP")
            most = MAX_JPEG_PIXELS if decoded.format == "JPEG" else MAX_PIXELS
            assert 0 < decoded.width * decoded.height <= most


def _decoded(decoder: Decoder, content: bytes) -> Decoded | None:
    try:
        return decoder(content)
    except DecodeError as error:
        _check_told(error)
        return None


def checkpoint(content: bytes) -> None:
    """The snapshot that was saved, or a refusal that names the file."""
    path = _put("checkpoints/checkpoint-000001.npz", content)
    warned: list[str] = []
    try:
        loaded = Checkpoints(path.parent, warn=warned.append).load()
    except RunError as error:
        _check_told(error)
        assert warned == [f"{path.name} is damaged or unreadable, and passed over"]
        return
    assert content == fuzz_seeds.checkpoint()[0]
    expected = fuzz_seeds.SNAPSHOT
    assert loaded.values == expected.values
    assert loaded.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert loaded.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded.arrays[name], array)


def sealed_checkpoint(content: bytes) -> None:
    """Whoever can write a digest can write anything: plain arrays of bounded size, or a refusal."""
    digest = hashlib.sha256(content).hexdigest().encode()
    path = _put("checkpoints/checkpoint-000001.npz", content + digest)
    try:
        loaded = Checkpoints(path.parent).load()
    except RunError as error:
        _check_told(error)
        return
    assert isinstance(loaded, Snapshot)
    assert isinstance(loaded.values, dict)
    assert not any(array.dtype.hasobject for array in loaded.arrays.values())
    assert sum(array.nbytes for array in loaded.arrays.values()) <= len(content)


def features(content: bytes) -> None:
    """The rows that were stored, or none, and a word about it."""
    path = _put("features/0123456789abcdef.npy", content)
    warned: list[str] = []
    keys, rows = fuzz_seeds.KEYS, fuzz_seeds.ROWS
    store = FeatureStore(path.parent, shape=rows.shape[1:], dtype="float32", warn=warned.append)
    missing = store.missing(keys)
    path.with_suffix(".damaged").unlink(missing_ok=True)
    if missing:
        assert len(missing) == len(keys)
        assert len(warned) == 1
    else:
        assert not warned
        np.testing.assert_array_equal(store.rows(keys).take(range(len(keys))), rows)


def manifest(content: bytes) -> None:
    """Files that are there, with labels and splits, or an error that names the line."""
    _check_manifest("manifest/manifest.csv", content)


def json_lines(content: bytes) -> None:
    """The same, where each line is an object of JSON."""
    _check_manifest("manifest/manifest.jsonl", content)


def _check_manifest(name: str, content: bytes) -> None:
    folder = _put("manifest/a.jpg", b"").parent
    _put("manifest/b c/d.png", b"")
    path = _put(name, content)
    samples = _read_as_proposed(path)
    for split, label, file in samples:
        assert split in {"", *SPLIT_NAMES.values()}
        assert label
        assert label.isprintable()
        assert (folder / file).is_file()
    try:
        text = manifest_text(samples)
    except DataError as error:
        _check_told(error)
        return
    again = {(split, label, str(Path(file))) for split, label, file in _again(folder, text)}
    assert again == {(split or "", label, str(Path(file))) for split, label, file in samples}


def _read_as_proposed(path: Path) -> list[tuple[str, str, str]]:
    """What a manifest says, or what it says with the columns that its error proposes."""
    columns = None
    for _ in range(2):
        try:
            notes: list[str] = []
            samples = read_manifest(path, columns, notes)
        except DataError as error:
            _check_told(error, str(path))
            columns = error.proposal.columns if isinstance(error, UnreadManifest) else None
            if columns is None:
                return []
            said = config_for_source("x", columns=columns.as_yaml()).data.columns
            assert said is not None
            assert Columns(**said.model_dump()) == columns
        else:
            assert all(note.isprintable() for note in notes)
            return samples
    return []


def _again(folder: Path, text: str) -> list[tuple[str, str, str]]:
    if text.count("\n") == 1:
        return []
    if ",\n" in text:  # no splits: the last column is empty
        text = text.replace(",split\n", "\n", 1).replace(",\n", "\n")
    return read_manifest(_put(str(folder / "again.csv"), text.encode()))


def pattern(content: bytes) -> None:
    """A pattern of one group, whose names can be shown, or a ValueError for the config to tell."""
    try:
        compiled = compile_pattern(content.decode("utf-8", errors="replace"))
    except ValueError:
        return
    assert compiled.groups == 1
    assert label_in_name("train/cat.1.jpg", compiled).isprintable()


def weights(content: bytes) -> None:
    """Finite arrays of the expected shapes, or an error that names the file."""
    path = _put("weights.h5", content)
    network = fuzz_seeds.Network()
    try:
        load_weights(network, path, name="tiny")
    except RunError as error:
        _check_told(error, str(path))
        return
    for variable in network.variables:
        assert variable.value.shape == variable.shape
        assert np.isfinite(variable.value).all()


def model(content: bytes) -> None:
    """A `.keras` file that names nothing but layers of Keras, or an error that names the file."""
    path = _put("model.keras", content)
    try:
        accepted = check_keras_file(path)
    except RunError as error:
        _check_told(error, str(path))
        return
    assert accepted.num_values <= len(content)
    for value in _values_in(accepted.config):
        if isinstance(value, dict) and value.get("module") is not None:
            assert str(value["module"]).split(".")[0] in ("keras", "builtins")
            assert value["class_name"] not in ("Lambda", "TFSMLayer", "TorchModuleWrapper")


def arrays(content: bytes) -> None:
    """Images and as many labels, or an error that names the file."""
    path = _put("arrays.npz", content)
    try:
        loaded = load_npz(path)
    except DataError as error:
        _check_told(error, str(path))
        return
    assert "x_train" in loaded
    for split in {name[2:] for name in loaded}:
        assert loaded[f"x_{split}"].dtype == np.uint8
        assert loaded[f"y_{split}"].dtype.kind in "iuU"
        assert len(loaded[f"x_{split}"]) == loaded[f"y_{split}"].size


def idx(content: bytes) -> None:
    """Labels of images, or an error that names the file."""
    path = _put("train-labels-idx1-ubyte", content)
    images = _put(
        "train-images-idx3-ubyte", bytes([0, 0, 8, 3, 0, 0, 0, 3, *[0, 0, 0, 1] * 2, 7, 8, 9])
    )
    try:
        loaded = load_idx(images, path)
    except DataError as error:
        _check_told(error)
        return
    assert loaded["y_train"].size == len(loaded["x_train"]) == 3


def run_file(content: bytes) -> None:
    """One file of a run, its name in the first line: values of their types, or a RunError."""
    _with_changed_file(content, read_all)


def page(content: bytes) -> None:
    """The same, as `report` and `compare` show it: pages without control characters."""
    _with_changed_file(content, lambda run: show_all(run, Run.open(_other_run())))


TARGETS = {
    target.__name__: target
    for target in (
        yaml_text,
        config,
        override,
        image,
        checkpoint,
        sealed_checkpoint,
        features,
        manifest,
        json_lines,
        pattern,
        weights,
        model,
        arrays,
        idx,
        run_file,
        page,
    )
}


def _with_changed_file(content: bytes, do: Any) -> None:
    name, _, body = content.partition(b"\n")
    place = fuzz_seeds.RUN_FILES.get(name.decode(errors="replace"))
    if place is None:
        return
    folder = _run()
    path = folder / place
    before = path.read_bytes()
    path.write_bytes(body)
    try:
        do(Run.open(folder))
    except RunError as error:
        _check_told(error)
    finally:
        path.write_bytes(before)


def _check_told(error: CvtrainError, words: str = "") -> None:
    """An error says something, what it is about, and nothing that a terminal would obey."""
    assert error.message
    assert words in error.message
    assert all(line.isprintable() for line in str(error).split("\n")), ascii(str(error))


def _check_lines(error: CvtrainError, begin: re.Pattern[str]) -> None:
    for line in error.message.split("\n"):
        assert begin.match(line)


def _check_place(error: yaml.YamlError, num_lines: int) -> None:
    assert error.what
    assert 1 <= error.line <= num_lines


def _values_in(value: Any) -> Iterator[Any]:
    yield value
    children: Sequence[Any] = ()
    if isinstance(value, dict):
        children = [*value.values()]
        assert all(isinstance(key, str) for key in value)
    elif isinstance(value, list):
        children = value
    for child in children:
        yield from _values_in(child)


@functools.cache
def _scratch() -> Path:
    # Whoever runs a target says where, and removes it.
    return Path(tempfile.mkdtemp(prefix="cvtrain-fuzz-"))


def _put(name: str, content: bytes) -> Path:
    path = _scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@functools.cache
def _run() -> Path:
    return fuzz_seeds.write_run(_scratch() / "one" / "run")


@functools.cache
def _other_run() -> Path:
    return fuzz_seeds.write_run(_scratch() / "other" / "run")
