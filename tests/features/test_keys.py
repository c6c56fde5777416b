import hashlib
import itertools

import numpy as np
import pytest

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.features import keys as module
from cvtrain.features.keys import image_keys, model_keys
from cvtrain.sections import Augment, RandAugment

layers = keras.layers


def build(
    *,
    prefix="",
    size=8,
    filters=4,
    strides=1,
    activation="relu",
    swapped=False,
    policy="float32",
    initial=0.1,
    **options,
):
    """A small graph with two paths and something behind the cut."""
    x = images = keras.Input((size, size, 3), name=f"{prefix}images")
    one = layers.Conv2D(
        filters,
        3,
        strides=strides,
        padding="same",
        activation=activation,
        dtype=policy,
        kernel_initializer=keras.initializers.Constant(initial),
        name=f"{prefix}conv",
        **options,
    )(x)
    two = layers.BatchNormalization(dtype=policy, name=f"{prefix}norm")(one)
    pair = [two, one] if swapped else [one, two]
    x = layers.Subtract(dtype=policy, name=f"{prefix}cut")(pair)
    x = layers.GlobalAveragePooling2D(name=f"{prefix}pool")(x)
    return keras.Model(images, layers.Dense(2, name=f"{prefix}logits")(x))


def cut(model, name="cut"):
    return keras.Model(model.input, model.get_layer(name).output)


def key_of(model, dtype="bfloat16", name="cut"):
    (key,) = model_keys(cut(model, name), dtype=dtype)
    return key


def test_what_changes_features_changes_the_key():
    model = build()
    models = {
        "as it is": model,
        "size": build(size=9),
        "filters": build(filters=5),
        "strides": build(strides=2),
        "activation": build(activation="elu"),
        "wiring": build(swapped=True),
        "precision": build(policy="mixed_bfloat16"),
        "weights": build(initial=0.2),
        "dilation": build(dilation_rate=2),
    }
    found = {what: key_of(each) for what, each in models.items()}
    found["dtype"] = key_of(model, dtype="float32")
    found["another cut"] = key_of(model, name="norm")
    for what in ("conv", "norm"):
        for weight in model.get_layer(what).weights:
            before = weight.numpy()
            changed = before.copy()
            changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
            weight.assign(changed)
            found[weight.path] = key_of(model)
            weight.assign(before)
    assert len(set(found.values())) == len(found) == 11 + 6
    assert key_of(model) == found["as it is"]


@pytest.mark.parametrize("name", ["keras", backend.engine_name()])
def test_other_versions_of_what_computes_change_the_key(name, monkeypatch):
    model = build()
    before = key_of(model)
    versions = backend.versions() | {"python": "9.9", "numpy": "9.9"}
    monkeypatch.setattr(backend, "versions", lambda: versions)
    assert key_of(model) == before
    monkeypatch.setattr(backend, "versions", lambda: versions | {name: "9.9"})
    assert key_of(model) != before


def test_what_does_not_change_features_leaves_the_key():
    model = build()
    key = key_of(model)
    assert key_of(build()) == key
    assert key_of(build(prefix="other_"), name="other_cut") == key
    assert key_of(build(kernel_regularizer="l2", kernel_constraint="max_norm")) == key
    model.get_layer("logits").kernel.assign(np.ones((4, 2)))
    model.trainable = False
    assert key_of(model) == key

    same = build(initial=0.5)
    same.get_layer("conv").set_weights(model.get_layer("conv").get_weights())
    assert key_of(same) == key


def test_a_run_s_model_saved_and_opened_has_the_same_key(tmp_path):
    model = build()
    model.save(tmp_path / "model.keras")
    assert key_of(keras.saving.load_model(tmp_path / "model.keras")) == key_of(model)


def test_each_output_has_the_key_that_it_would_have_alone():
    model = build()
    names = ["conv", "norm", "cut", "pool"]
    taps = keras.Model(model.input, [model.get_layer(name).output for name in names])
    together = model_keys(taps, dtype="bfloat16")
    assert together == [key_of(model, name=name) for name in names]
    assert len(set(together)) == 4


def test_a_layer_that_is_called_twice_is_told_apart():
    conv = layers.Conv2D(3, 1, kernel_initializer="ones")
    images = keras.Input((4, 4, 3))
    once = keras.Model(images, conv(images))
    twice = keras.Model(images, conv(conv(images)))
    assert model_keys(once, dtype="float32") != model_keys(twice, dtype="float32")


class Scale(layers.Layer):
    """Like ConvNeXt's: its weight has no name, so Keras makes one by counting."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[1:], initializer="ones")

    def call(self, x):
        return x * self.scale


def test_names_that_keras_counts_leave_the_key():
    images = keras.Input((2, 2, 3))
    one, other = (keras.Model(images, Scale(name="scale")(images)) for _ in range(2))
    assert one.weights[0].name != other.weights[0].name
    assert model_keys(one, dtype="float32") == model_keys(other, dtype="float32")


# Images


DIGESTS = [hashlib.sha256(bytes([i])).digest() for i in range(3)]
CHANGES = Augment(flip="horizontal", rotate=10.0)


def test_an_image_is_known_by_its_pixels_alone():
    keys = image_keys(DIGESTS)
    assert len(set(keys)) == 3
    assert all(len(key) == 32 for key in keys)
    assert image_keys(DIGESTS[::-1], seed=5) == keys[::-1]
    assert image_keys(DIGESTS, num_views=2) == keys * 2


def test_views_come_view_by_view_and_more_of_them_leave_the_first():
    four = image_keys(DIGESTS, CHANGES, seed=1, num_views=4)
    assert len(set(four)) == 12
    assert image_keys(DIGESTS, CHANGES, seed=1, num_views=2) == four[:6]
    changed = image_keys([DIGESTS[0], DIGESTS[2], DIGESTS[2]], CHANGES, seed=1, num_views=4)
    assert [i for i in range(12) if changed[i] != four[i]] == [1, 4, 7, 10]


class Later(Augment):
    hue: float = 0.0


def test_a_setting_that_is_new_and_neutral_leaves_the_keys():
    pixels = [b"a" * 32, b"b" * 32]
    keys = image_keys(pixels, Augment(rotate=9.0), num_views=2)
    assert image_keys(pixels, Later(rotate=9.0), num_views=2) == keys
    assert set(image_keys(pixels, Later(rotate=9.0, hue=0.1), num_views=2)).isdisjoint(keys)


@pytest.mark.parametrize(
    ("augmentation", "keys"),
    [
        (
            Augment(flip="horizontal", rotate=10, mixup=0.2),
            ["ec6cd6260572a13c", "ddde57c61e54b781"],
        ),
        (
            Augment(rotate=10, fill="reflect", erase=0.25, rand_augment=RandAugment(magnitude=5)),
            ["61c5e2f410bb4e50", "6317af8439c489ca"],
        ),
        (Augment(rand_augment=RandAugment()), ["e6529ccd6b4bfdf4", "8585180be1e12960"]),
        (Augment(fill="wrap"), ["1406e05881e29936"] * 2),
    ],
)
def test_views_that_were_cached_before_are_found(monkeypatch, augmentation, keys):
    """Beginnings of the keys that caches on disk have for these settings."""
    monkeypatch.setattr(module.cv2, "__version__", "4.0")
    digest = hashlib.sha256(b"\0").digest()
    found = image_keys([digest], augmentation, seed=3, num_views=2)
    assert [key.hex()[:16] for key in found] == keys


def test_whatever_changes_a_view_changes_its_key(monkeypatch):
    other = {
        "flip": "both",
        "rotate": 11.0,
        "shift": 0.1,
        "shear": 0.1,
        "zoom": 0.1,
        "brightness": 0.1,
        "contrast": 0.1,
        "saturation": 0.1,
        "fill": "wrap",
        "erase": 0.5,
        "rand_augment": RandAugment(),
    }
    found = [
        image_keys(DIGESTS),
        image_keys(DIGESTS, CHANGES),
        image_keys(DIGESTS, CHANGES, seed=1),
    ]
    for name, value in other.items():
        found.append(image_keys(DIGESTS, CHANGES.model_copy(update={name: value})))
    monkeypatch.setattr(module.cv2, "__version__", "9.9")
    found.append(image_keys(DIGESTS, CHANGES))
    monkeypatch.setattr(module, "AUGMENT_VERSION", 99)
    found.append(image_keys(DIGESTS, CHANGES))
    every = list(itertools.chain(*found))
    assert len(set(every)) == len(every) == 3 * 16
    assert set(other) == set(Augment.model_fields) - {"mixup", "cutmix"}
