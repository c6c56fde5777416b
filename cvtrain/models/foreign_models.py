"""Recognize the format of a model file, and advise how to convert it.

The first bytes of a file count more than its name. No model is loaded; of a `.keras` archive or an
HDF5 file the description of the layers is read. The advice is a command line of plain Keras, which
the user may run.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cvtrain.models.hdf5 import is_hdf5, opened
from cvtrain.system.text import escape, shell_quote

MODELS = {
    ".keras": "a Keras model",
    ".weights.h5": "a file of Keras' weights, without their layers",
    ".h5": "a Keras model in HDF5",
    ".hdf5": "a Keras model in HDF5",
    ".onnx": "an ONNX model",
    ".tflite": "a TensorFlow Lite model",
    ".pb": "a TensorFlow SavedModel",
    ".ckpt": "a checkpoint of weights",
    ".pt": "a PyTorch model",
    ".pth": "a PyTorch model",
    ".safetensors": "a file of weights",
}
"""Suffix of a file name -> description."""

_OTHERS = {
    ".npz": "a file of NumPy arrays",
    ".npy": "a NumPy array",
    ".pkl": "a pickled Python object",
    ".pickle": "a pickled Python object",
    ".joblib": "a pickled Python object",
    ".index": "a part of a TensorFlow checkpoint",
    ".data-00000-of-00001": "a part of a TensorFlow checkpoint",
    ".zip": "a ZIP archive",
    ".tar": "an archive",
    ".gz": "an archive",
    ".tgz": "an archive",
}
"""Formats of weights or models that cvtrain does not read."""
_ARCHIVES = {"a ZIP archive", "an archive"}

_HEAD_BYTES = 4096
_MOST_BYTES = 16_000_000  # of a config; that of the largest network of keras.applications has 2 MB
_TRUST = "If you trust where it comes from (Keras may run code that is in it)"


def model_at(path: Path) -> str:
    """Description of a file with the content or the name of a model; else empty."""
    if not _is_file(path):
        return ""
    known = MODELS | _OTHERS
    suffix = next((each for each in known if path.name.lower().endswith(each)), "")
    start = beginning(path)
    if is_hdf5(path):
        suffix = ".h5" if _mentions(path, b"model_config") else ".weights.h5"
    elif start.startswith(b"PK\3\4") and b"metadata.json" in start[:64]:
        suffix = ".keras"
    elif start.startswith(b"PK\3\4") and b"data.pkl" in start[:256]:
        suffix = ".pt"
    elif start[4:8] == b"TFL3":
        suffix = ".tflite"
    if suffix in (".keras", ".h5", ".hdf5", ".weights.h5") and (what := _no_model(start)):
        return what
    return known.get(suffix, "")


def what_is(path: Path) -> str:
    """Description of a path that was given as a model or as weights."""
    if path.is_dir():
        is_saved = (path / "saved_model.pb").is_file()
        return "is a TensorFlow SavedModel, which is a folder" if is_saved else "is a folder"
    if not _is_file(path):
        return "is not a regular file" if path.exists() else "there is no such file"
    if _is_cut_off(path):
        return "is the beginning of a Keras model, whose end is missing"
    kind = _no_model(beginning(path)) or model_at(path) or "not a file of a model"
    if kind == MODELS[".keras"] and not zipfile.is_zipfile(path):
        kind = "not an archive, despite its name"
    inside = nested_backbone(path)
    within = f" with the model {escape(inside[-1])} inside it" if inside else ""
    packed = f" with {escape(_packed_model(path))} in it" if _packed_model(path) else ""
    return f"is {kind}{within}{packed}"


def is_keras_archive(path: Path) -> bool:
    """Whether a file is a `.keras` model by its content."""
    return zipfile.is_zipfile(path) and model_at(path) == MODELS[".keras"]


def keras2_version(path: Path) -> str:
    """The version of Keras 2 that wrote a whole model; empty: it was not Keras 2."""
    metadata = _json_in(path, "metadata.json")
    version = str(metadata.get("keras_version", "") or _hdf5_text(path, "keras_version"))
    return escape(version[:20]) if version.startswith("2.") else ""


def recorded_about(path: Path) -> dict[str, Any]:
    """What cvtrain wrote into a `.keras` file about the model, unchecked; empty where it did not.

    See `saved_model.save_model`.
    """
    found = _json_in(path, "metadata.json").get("cvtrain")
    return found if isinstance(found, dict) else {}


def nested_backbone(path: Path) -> list[str]:
    """Names that lead to the largest model inside a model; empty: its layers lie in itself.

    Args:
        path: a `.keras` or `.h5` file. Of one that cannot be read nothing is known: empty, too.
    """
    models = _models_of(path)
    return list(max(models.items(), key=lambda each: each[1], default=((), 0))[0])


def is_of_cvtrain(path: Path) -> bool:
    """Whether a `.keras` file has the layers that every model of a run has."""
    with contextlib.suppress(Exception):
        names = [
            each["config"]["name"] for each in _json_in(path, "config.json")["config"]["layers"]
        ]
        return {"images", "logits", "probabilities"} <= set(names)
    return False


def how_to_open(path: Path) -> str:
    """How to make a `.keras` file of Keras 3 from what is at `path`."""
    what = model_at(path)
    if operators := _operators_in(path):
        return (
            f"Keras 3 cannot open a model with these operators in its graph: {operators}. Build it "
            "in Keras 3 where it was made, and save that with model.save('NAME.keras')."
        )
    if keras2_version(path) and len(_models_of(path)) > 1:
        return (
            "Keras 3 cannot open a model of Keras 2 that contains another model. "
            "Build it in Keras 3, and save that with model.save('NAME.keras')."
        )
    if keras2_version(path) and what == MODELS[".keras"]:
        first, middle = _loading(path, ".keras"), path.with_suffix(".h5")
        wanted = path.with_name(f"{path.stem}-keras3.keras")
        old = _python(f"import tf_keras; {first}.save({escape(middle)!r})")
        second = _loading_h5(middle, described_in=path)
        new = _python(f"import keras; {second}.save({escape(wanted)!r})")
        return f"{_TRUST}: pip install tf-keras; {old}; {new}"
    if what == MODELS[".h5"]:
        wanted, named = path.with_suffix(".keras"), _named(path, ".h5")
        opening = _loading_h5(named, described_in=path)
        line = _python(f"import keras; {opening}.save({escape(wanted)!r})")
        return f"{_TRUST}: {_renaming(path, '.h5')}{line}"
    if is_packed(path):
        wanted = path.with_name(f"{path.stem}-unpacked.keras")
        opening = f"keras.saving.load_model({escape(path)!r}, compile=False)"
        line = _python(f"import keras; {opening}.save({escape(wanted)!r})")
        return f"Keras stores the parts of a model unpacked. {_TRUST}: {line}"
    if what == MODELS[".weights.h5"]:
        return "Without its layers nothing can be built: save it with model.save('NAME.keras')."
    if what in _ARCHIVES:
        return how_to_unpack(path)
    is_whole = what in (*MODELS.values(), *_OTHERS.values()) and not _is_cut_off(path)
    if path.is_dir() or is_whole:
        return "Save it in Keras 3, where it was made: model.save('NAME.keras')."
    return how_to_restore(path)


def how_to_save_weights(path: Path) -> str:
    """How to save the weights of the Keras model at `path`: of all of it, or of its backbone."""
    is_old, nested = bool(keras2_version(path)), nested_backbone(path)
    suffix, end = ".h5" if is_hdf5(path) else ".keras", ".h5" if is_old else ".weights.h5"
    written = path.with_name(f"{path.stem}-{'backbone' if nested else 'all'}{end}")
    layer = "".join(f".get_layer({escape(name)!r})" for name in nested)
    if not is_old and _operators_in(path):  # Keras does not open it.
        return (
            "Save its weights, where it was made: "
            f"model{layer}.save_weights({escape(written)!r}), "
            f"then backbone.weights: {escape(written)}"
        )
    engine = "tf_keras" if is_old else "keras"
    saved = f"{_loading(path, suffix)}{layer}.save_weights({escape(written)!r})"
    install = "pip install tf-keras; " if is_old else ""
    trust = f"{_TRUST}: " if is_old or is_hdf5(path) else ""
    line = _python(f"import {engine}; {saved}")
    return (
        f"{trust}{install}{_renaming(path, suffix)}{line}, then backbone.weights: {escape(written)}"
    )


def is_of_others(path: Path) -> bool:
    """Whether a file is a complete model or weights in a format that cvtrain does not read."""
    own = {MODELS[suffix] for suffix in (".keras", ".h5", ".weights.h5")}
    what = model_at(path)
    return is_hdf5(path) or what in {*MODELS.values(), *_OTHERS.values()} - own


def how_to_unpack(path: Path) -> str:
    """Advice for an archive that was given as a model; empty for other files."""
    if model_at(path) not in _ARCHIVES:
        return ""
    inside = _packed_model(path)
    return f"Unpack it, and name {escape(inside) if inside else 'the model that is in it'}."


def how_to_restore(path: Path) -> str:
    """Advice for a file that has the name of a model but not the content."""
    if beginning(path).startswith(b"version https://git-lfs"):
        return "Fetch it with: git lfs pull"
    return "Fetch or copy it again."


def beginning(path: Path) -> bytes:
    """The first bytes of a regular file; of anything else none."""
    if not _is_file(path):  # a pipe would be waited for
        return b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(_HEAD_BYTES)
    return b""


def _is_cut_off(path: Path) -> bool:
    """Whether a file begins as an archive of Keras but is truncated."""
    is_named = model_at(path) == MODELS[".keras"] and beginning(path).startswith(b"PK")
    return is_named and not zipfile.is_zipfile(path)


def _no_model(start: bytes) -> str:
    """Description of a file whose first bytes are not those of any model; else empty."""
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the file"
    if not start.strip(b"\0"):
        return "a file of zero bytes" if start else "an empty file"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "an HTML or XML page"
    return ""


def _named(path: Path, suffix: str) -> Path:
    """The name under which Keras opens a file: Keras looks at the suffix only."""
    fits = path.suffix == suffix or (suffix == ".h5" and path.suffix == ".hdf5")
    return path if fits else path.with_suffix(suffix)


def _renaming(path: Path, suffix: str) -> str:
    named = _named(path, suffix)
    return "" if named == path else f"rename it to {escape(named)}, and then: "


def _loading(path: Path, suffix: str) -> str:
    """The call that opens a model whose suffix fits its content."""
    named = _named(path, suffix)
    if suffix == ".h5" and not keras2_version(path):
        return _loading_h5(named, described_in=path)
    call = "tf_keras.models.load_model" if keras2_version(path) else "keras.saving.load_model"
    return f"{call}({escape(named)!r}, compile=False)"


def _loading_h5(path: Path, *, described_in: Path) -> str:
    without = ""
    if _mentions(described_in, b'"DepthwiseConv2D"'):
        # Keras 2 wrote an argument that Keras 3 has no longer.
        without = (
            ", custom_objects={'DepthwiseConv2D': "
            "lambda groups=1, **k: keras.layers.DepthwiseConv2D(**k)}"
        )
    return f"keras.saving.load_model({escape(path)!r}, compile=False{without})"


def _python(code: str) -> str:
    """A command line that runs the code, in double quotes if possible."""
    is_plain = not set(code) & set('"$`\\!')
    return f'python -c "{code}"' if is_plain else f"python -c {shell_quote(code)}"


def _operators_in(path: Path) -> str:
    """Names of operators in a graph that Keras cannot load again.

    HDF5 files and files of Keras 2 store them as layers without a module.
    """
    is_old, found = bool(keras2_version(path)), set()
    config = (_json_in(path, "config.json") if is_old else {}) or _hdf5_config(path)
    with contextlib.suppress(Exception):  # A stranger's: any value may be of any type.
        for layer in config["config"]["layers"]:
            name = str(layer["class_name"])
            is_operator = name.endswith("OpLambda") if is_old else _is_operator(layer["config"])
            if is_operator:
                found.add(escape(name[:40]))
    return ", ".join(sorted(found)[:4])


def _is_operator(config: Mapping[str, Any]) -> bool:
    # Layers say whether they are trainable; their inputs do not, but they have a shape.
    return not {"trainable", "batch_shape", "layers"} & set(config)


def _packed_model(path: Path) -> str:
    """The name of the first model in a ZIP archive, such as an export of Teachable Machine."""
    with contextlib.suppress(Exception):
        if model_at(path) == _OTHERS[".zip"]:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            return next((name for name in names if name.lower().endswith(tuple(MODELS))), "")
    return ""


def is_packed(path: Path) -> bool:
    """Whether a `.keras` archive was compressed by another program."""
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        return any(member.compress_type != zipfile.ZIP_STORED for member in members)
    return False


def _models_of(path: Path) -> dict[tuple[str, ...], int]:
    """The models in the model at `path`, itself first, as `_models_in` has them."""
    config = _json_in(path, "config.json") or _hdf5_config(path)
    with contextlib.suppress(Exception):  # A stranger's: any value may be of any type.
        return dict(_models_in(config, ()))
    return {}


def _models_in(
    model: Mapping[str, Any], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], int]]:
    """Paths of names to the models in a model, and how many layers each has; first its own."""
    layers = model.get("config", {}).get("layers", ())
    yield above, len(layers)
    for layer in layers:
        if isinstance(layer["config"].get("layers"), list):
            yield from _models_in(layer, (*above, str(layer["config"]["name"])))


def _json_in(path: Path, member: str) -> dict[str, Any]:
    """A JSON member of a `.keras` file; empty if it cannot be read."""
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        if info.file_size <= _MOST_BYTES and info.compress_type == zipfile.ZIP_STORED:
            found = json.loads(archive.read(info))
            return found if isinstance(found, dict) else {}
    return {}


def _hdf5_config(path: Path) -> dict[str, Any]:
    """The description of a model in HDF5; empty if it cannot be read."""
    with contextlib.suppress(Exception):
        found = json.loads(_hdf5_text(path, "model_config"))
        return found if isinstance(found, dict) else {}
    return {}


def _hdf5_text(path: Path, key: str) -> str:
    """A text attribute of a model in HDF5; empty if it cannot be read."""
    with contextlib.suppress(Exception), opened(path) as file:
        attribute = file.attrs.get_id(key)
        if attribute.shape == () and attribute.dtype.itemsize <= _MOST_BYTES:
            text = file.attrs[key]
            return text.decode() if isinstance(text, bytes) else str(text)
    return ""


def _mentions(path: Path, word: bytes) -> bool:
    with (
        contextlib.suppress(OSError, ValueError),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(word) >= 0
    return False


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError):  # of a name that is too long, of a folder that is not ours
        return path.is_file()
    return False
