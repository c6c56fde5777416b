"""`.keras` files put together by hand, without Keras: configs, weights, archives."""

import io
import json
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np

SHAPE = (16, 20, 3)
NUM_CLASSES = 3
METADATA = '{"keras_version": "3.15.1", "date_saved": "2026-11-22@10:00:00"}'


def thing(module, class_name, config, **more):
    """An object as Keras names it in a config."""
    return {"module": module, "class_name": class_name, "config": config} | more


def function(module, name):
    return thing(module, "function", name, registered_name="function")


def history(name, shape, node=0, tensor=0):
    config = {"shape": [None, *shape], "dtype": "float32", "keras_history": [name, node, tensor]}
    return {"class_name": "__keras_tensor__", "config": config}


def layer(class_name, name, after=None, shape=SHAPE, of="keras.layers", kwargs=None, **config):
    """A layer of a functional model that is called on the output, of `shape`, of layer `after`."""
    inbound = [{"args": [history(after, shape)], "kwargs": kwargs or {}}] if after else []
    return thing(
        of,
        class_name,
        {"name": name} | config,
        registered_name=None,
        name=name,
        inbound_nodes=inbound,
    )


def images(name="images", shape=SHAPE):
    return layer("InputLayer", name, batch_shape=[None, *shape], dtype="float32", sparse=False)


def pooled(after, shape=SHAPE):
    return layer("GlobalAveragePooling2D", "pool", after, shape)


def top(after="pool", shape=(3,), **config):
    settings = {"units": NUM_CLASSES, "activation": "softmax", "use_bias": True}
    return layer("Dense", "top", after, shape, **settings | config)


def model(layers, first="images", last="top", **more):
    config = {
        "name": "classifier",
        "trainable": True,
        "layers": list(layers),
        "input_layers": [[first, 0, 0]],
        "output_layers": [[last, 0, 0]],
    }
    return thing(
        "keras.src.models.functional", "Functional", config, registered_name="Functional", **more
    )


def with_layer(extra, shape=SHAPE):
    """A classifier with one more layer, named `x`, on its images."""
    return model([images(), extra, pooled(extra["name"], shape), top()])


def plain():
    """A classifier that is harmless."""
    return with_layer(layer("Rescaling", "x", "images", scale=1 / 255, offset=0.0))


def weights(write=None, **arrays):
    """An HDF5 file with the weights of `top`, and whatever `write(file)` adds."""
    content = io.BytesIO()
    generator = np.random.default_rng(0)
    with h5py.File(content, "w") as file:
        arrays = {
            "layers/dense/vars/0": generator.normal(size=(3, 3)).astype(np.float32),
            "layers/dense/vars/1": np.zeros(3, np.float32),
        } | arrays
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
        if write is not None:
            write(file)
    return content.getvalue()


def archive(path: Path, config=None, content=None, more=(), packed=zipfile.ZIP_STORED):
    """Write a `.keras` file; `more` are members besides: (name or ZipInfo, bytes)."""
    config = plain() if config is None else config
    text = config if isinstance(config, str | bytes) else json.dumps(config)
    with zipfile.ZipFile(path, "w", packed) as file:
        file.writestr("metadata.json", METADATA)
        file.writestr("config.json", text)
        file.writestr("model.weights.h5", weights() if content is None else content)
        for name, data in more:
            file.writestr(name, data)


def patch_directory(path: Path, member: str, offset: int, value: int, size: int = 4) -> None:
    """Overwrite a field of a member's entry in the central directory, `offset` bytes into it."""
    content = bytearray(path.read_bytes())
    name = member.encode()
    at = content.rfind(name)
    entry = content.rfind(b"PK\x01\x02", 0, at)
    assert at - entry == 46
    content[entry + offset : entry + offset + size] = struct.pack({2: "<H", 4: "<I"}[size], value)
    path.write_bytes(content)
