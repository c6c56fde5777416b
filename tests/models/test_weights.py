import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from plain_keras import network, write_h5, write_keras3

from cvtrain.backend import keras
from cvtrain.errors import RunError
from cvtrain.models.weights import load_weights

NAME = "tiny"


def tiny(*, top=False):
    """All that matters for the layouts: branches, a layer of layers, two of a kind, a generator."""
    layers = keras.layers
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv1")(images)
    x = layers.BatchNormalization()(x)
    left = layers.SeparableConv2D(4, 3, padding="same")(layers.Dropout(0.5)(x))
    inner = [keras.Input((6, 6, 4)), layers.Conv2D(4, 1), layers.LayerNormalization()]
    x = layers.add([left, keras.Sequential(inner)(x)])
    x = layers.Conv2D(4, 3)(x)
    if top:
        x = layers.Dense(10)(layers.Flatten()(x))
    model = keras.Model(images, x)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.random(weight.shape))
    return model


@pytest.fixture(scope="module")
def plain():
    return tiny()


@pytest.fixture(scope="module")
def empty(plain):
    """The network that files are read into."""
    return keras.models.clone_model(plain)


@pytest.fixture(scope="module")
def files(plain, tmp_path_factory):
    """One file of each layout."""
    folder = tmp_path_factory.mktemp("weights")
    return write_h5(plain, folder / "old.h5"), write_keras3(plain, folder / "new.weights.h5")


@pytest.fixture
def file(files, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copy(files[0], tmp_path / "weights.h5"))


@pytest.fixture
def refused(empty):
    def check(path, *words):
        with pytest.raises(RunError) as caught:
            load_weights(empty, path, name=NAME)
        assert "\n" not in caught.value.message
        assert caught.value.message.startswith(str(path))
        assert NAME in caught.value.message
        for word in words:
            assert word in caught.value.message
        assert caught.value.advice

    return check


def assert_read(path, network, expected):
    for weight in network.weights:
        weight.assign(np.zeros(weight.shape))
    load_weights(network, path, name=NAME)
    for actual, weight in zip(network.weights, expected.weights, strict=False):
        np.testing.assert_array_equal(actual, weight)


@pytest.mark.parametrize("layout", [0, 1])
def test_both_layouts_are_read(layout, plain, empty, files):
    assert_read(files[layout], empty, plain)


@pytest.mark.parametrize("write", [write_h5, write_keras3])
def test_a_classifier_in_the_file_is_passed_over(write, empty, tmp_path):
    whole = tiny(top=True)
    assert_read(write(whole, tmp_path / "x.weights.h5"), empty, whole)


@pytest.mark.parametrize("write", [write_h5, write_keras3])
def test_the_largest_classifiers_of_keras_are_passed_over(write, tmp_path):
    whole = network("mobilenet_v3_small", include_top=True, alpha=0.25)
    base = network("mobilenet_v3_small", alpha=0.25)
    assert_read(write(whole, tmp_path / "x.weights.h5"), base, whole)


def test_a_whole_model_in_the_older_layout_is_read(files, plain, empty, tmp_path):
    path = tmp_path / "model.h5"
    with h5py.File(files[0]) as source, h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs.update(source.attrs)
        for name in source:
            source.copy(name, group)
    assert_read(path, empty, plain)


def test_names_spread_over_several_attributes_are_read(file, plain, empty):
    with h5py.File(file, "r+") as h5:
        names = h5.attrs["layer_names"]
        del h5.attrs["layer_names"]
        h5.attrs["layer_names0"], h5.attrs["layer_names1"] = names[:3], names[3:]
    assert_read(file, empty, plain)


def test_names_of_fixed_length_are_read(file, plain, empty):
    with h5py.File(file, "r+") as h5:
        h5.attrs["layer_names"] = np.array(h5.attrs["layer_names"], "S")
    assert_read(file, empty, plain)


def test_a_compiled_model_may_bring_its_optimizer(tmp_path, empty):
    trained = tiny()
    trained.compile("adam", "mse")
    trained.optimizer.build(trained.trainable_variables)
    assert_read(write_keras3(trained, tmp_path / "x.weights.h5"), empty, trained)


# Files that are no weights of this network


def test_a_missing_file(refused, tmp_path):
    refused(tmp_path / "none.h5", "no such file")


def test_a_folder(tmp_path, refused):
    refused(tmp_path, "is a folder")


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"<html>not found</html>" * 99])
def test_not_hdf5(content, tmp_path, refused):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated(layout, share, files, tmp_path, refused):
    path = tmp_path / "weights.h5"
    content = files[layout].read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "truncated")


def test_hdf5_of_something_else(tmp_path, refused):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["table"] = np.arange(5)
    refused(path)


@pytest.mark.parametrize("write", [write_h5, write_keras3])
def test_another_alpha(write, tmp_path):
    path = write(network("mobilenet", alpha=0.5), tmp_path / "x.weights.h5")
    with pytest.raises(RunError, match="conv1") as caught:
        load_weights(network("mobilenet", alpha=0.25), path, name="mobilenet with alpha 0.25")
    assert "(3, 3, 3, 16) and should be (3, 3, 3, 8)" in caught.value.message


@pytest.mark.parametrize("write", [write_h5, write_keras3])
def test_another_network(write, tmp_path, refused):
    path = write(network("mobilenet", alpha=0.25), tmp_path / "x.weights.h5")
    refused(path, "it has 54 layers with weights")


def test_a_name_that_a_terminal_would_obey(tmp_path, empty):
    with pytest.raises(RunError) as caught:
        load_weights(empty, tmp_path / "a\x1b[31m.h5", name=NAME)
    assert "\x1b" not in str(caught.value)


# Files of an attacker


def spoil(path, make):
    """Put what `make(group, name)` creates in the place of the first kernel."""
    with h5py.File(path, "r+") as file:
        group = file["conv1"]
        name = group.attrs["weight_names"][0]
        values = group[name][()]
        del group[name]
        make(group, name, values)


def other_file(tmp_path):
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["kernel"] = np.zeros((3, 3, 3, 4), "float32")
    return path


def test_links_into_other_files_are_not_followed(file, tmp_path, refused):
    link = h5py.ExternalLink(other_file(tmp_path), "kernel")
    spoil(file, lambda group, name, _: group.__setitem__(name, link))
    refused(file, "link")


def test_soft_links_are_not_followed(file, refused):
    spoil(file, lambda group, name, _: group.__setitem__(name, h5py.SoftLink("/elsewhere")))
    refused(file, "link")


def test_external_storage_is_not_read(file, tmp_path, refused):
    def external(group, name, values):
        storage = [(str(tmp_path / "raw"), 0, values.nbytes)]
        group.create_dataset(name, values.shape, values.dtype, external=storage)

    (tmp_path / "raw").write_bytes(bytes(4096))
    spoil(file, external)
    refused(file, "plain array")


def test_virtual_datasets_are_not_read(file, tmp_path, refused):
    def virtual(group, name, values):
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        layout[:] = h5py.VirtualSource(other_file(tmp_path), "kernel", values.shape)
        group.create_virtual_dataset(name, layout)

    spoil(file, virtual)
    refused(file, "plain array")


def test_compressed_arrays_are_not_unpacked(file, refused):
    spoil(file, lambda group, name, x: group.create_dataset(name, data=x, compression="gzip"))
    refused(file, "plain array")


def test_a_shape_that_would_fill_the_memory_is_not_read(file, refused):
    spoil(file, lambda group, name, _: group.create_dataset(name, (1 << 20,) * 3, "float32"))
    refused(file, "(1048576, 1048576, 1048576)")


def test_an_array_that_was_never_written(file, refused):
    spoil(file, lambda group, name, x: group.create_dataset(name, x.shape, x.dtype))
    refused(file, "never written")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value, file, refused):
    spoil(file, lambda group, name, x: group.create_dataset(name, data=np.full_like(x, value)))
    refused(file, "not finite")


@pytest.mark.parametrize("dtype", ["S8", "complex64", h5py.string_dtype()])
def test_arrays_of_anything_but_numbers(dtype, file, refused):
    spoil(file, lambda group, name, x: group.create_dataset(name, x.shape, dtype))
    refused(file, "not an array of numbers")


def test_a_group_in_the_place_of_an_array(file, refused):
    spoil(file, lambda group, name, _: group.create_group(name))
    refused(file, "not an array of numbers")


def test_a_group_that_contains_itself(files, tmp_path, refused):
    path = shutil.copy(files[1], tmp_path / "x.weights.h5")
    with h5py.File(path, "r+") as file:
        file["layers/again"] = file["layers"]
        del file["layers/conv2d"]
    refused(path)


@pytest.mark.parametrize("names", [["a/../b"], ["/"], [""], [b"\xff"], 7, ["x"] * 10_001, [1.5]])
def test_names_that_are_none(names, file, refused):
    with h5py.File(file, "r+", libver="latest") as h5:
        del h5.attrs["layer_names"]
        h5.attrs["layer_names"] = np.array(names, "S" if isinstance(names, list) else None)
    refused(file)


def test_a_heap_in_which_hdf5_would_walk_for_ever(file, refused):
    content = bytearray(file.read_bytes())
    heap = content.index(b"GCOL")
    free = content.index(b"\0\0\0\0\0\0\0\0", heap + 16)  # index 0: the free space
    content[free + 8 : free + 16] = bytes(8)
    file.write_bytes(content)
    refused(file, "heap of strings")
