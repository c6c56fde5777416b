import json
import os
import subprocess
import sys

import numpy as np
import pytest

from cvtrain import backend
from cvtrain.backend import keras, steps
from cvtrain.errors import ResourceError

on_tensorflow = pytest.mark.skipif(
    backend.engine_name() != "tensorflow", reason="other engines run Keras' own steps"
)


pytestmark = pytest.mark.usefixtures("seeded_engine")


def _model() -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.GlorotUniform(1))(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(0.5, seed=3)(x)
    x = keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(2))(x)
    return keras.Model(images, x)


def _batch(n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(n)
    images = generator.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return images, generator.integers(0, 3, n)


def _mixed_batch(n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    images, _ = _batch(n)
    return images, np.random.default_rng(n).dirichlet(np.ones(3), n).astype(np.float32)


def test_the_device_is_named():
    assert backend.set_up(seed=0, device="cpu").startswith("cpu: ")


def test_a_missing_gpu_is_an_error():
    if not backend.set_up(seed=0).startswith("cpu"):
        pytest.skip("there is a GPU")
    with pytest.raises(ResourceError, match="gpu was requested"):
        backend.set_up(seed=0, device="gpu")


def test_versions_name_what_computes():
    assert {"python", "cvtrain", "keras", "numpy", backend.engine_name()} == set(backend.versions())


def test_out_of_memory_is_recognised():
    xla_error = type("XlaRuntimeError", (RuntimeError,), {})
    torch_error = type("OutOfMemoryError", (RuntimeError,), {})
    assert backend.is_out_of_memory(MemoryError())
    assert backend.is_out_of_memory(xla_error("RESOURCE_EXHAUSTED: Failed to allocate 8 bytes"))
    assert backend.is_out_of_memory(torch_error("tried to allocate 20.00 GiB"))
    assert not backend.is_out_of_memory(ValueError("shapes do not match"))


@pytest.mark.slow
def test_the_engines_own_out_of_memory_is_recognised():
    with pytest.raises(Exception, match=r"(?i)oom|memory|exhausted") as caught:
        keras.ops.zeros((1 << 46,))
    assert backend.is_out_of_memory(caught.value)


@pytest.mark.slow
def test_importing_and_setting_up_is_silent():
    code = "from cvtrain import backend; backend.set_up(seed=0); backend.keras.ops.ones(2) + 1"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"floatx": "float16", "epsilon": 1e-2, "image_data_format": "channels_first"},
        {"backend": "none"},
    ],
)
def test_what_a_person_has_set_for_keras_changes_nothing(tmp_path, settings):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "tensorflow"} | settings))
    code = """if True:
        from cvtrain.backend import keras
        names = "floatx", "epsilon", "image_data_format"
        print(*(getattr(keras.config, name)() for name in names))"""
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    environment["KERAS_HOME"] = str(tmp_path)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if "floatx" in settings:
        assert done.stdout == "float32 1e-07 channels_last\n"
    else:
        assert "ConfigError: Keras cannot be loaded: Unable to import backend" in done.stderr


@on_tensorflow
@pytest.mark.parametrize(
    ("batch", "class_weights", "label_smoothing", "rates"),
    [
        (_batch, None, 0.0, [1.0] * 6),
        (_batch, np.array([0.5, 1.0, 4.0]), 0.0, [1.0] * 6),
        (_mixed_batch, np.array([0.5, 1.0, 4.0]), 0.2, [1.0] * 6),
        (_batch, None, 0.0, [0.0, 0.5, 0.25, 1.0, 1.0, 0.125]),
    ],
)
def test_the_compiled_step_is_kerass_own(batch, class_weights, label_smoothing, rates):
    results = []
    for step_type in (steps._TensorFlowStep, steps._KerasStep):
        model = _model()
        # With Adam's own epsilon, the rounding of a gradient of 1e-9 would be a step of full size.
        optimizer = keras.optimizers.Adam(1.0, epsilon=1e-3)
        optimizer.build(model.trainable_variables)
        step = step_type(model, optimizer, class_weights, label_smoothing, rates)
        for n in (6, 6, 4):
            step.run(*batch(n), 1e-3)
        results.append((step.totals, model.get_weights()))
    (totals, weights), (keras_totals, keras_weights) = results
    assert totals == pytest.approx(keras_totals, rel=1e-5)
    for ours, theirs in zip(weights, keras_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@on_tensorflow
@pytest.mark.parametrize("step_type", [steps._TensorFlowStep, steps._KerasStep])
def test_totals_are_sums_over_images_and_can_be_set(step_type):
    model = _model()
    model.layers[-2].rate = 0.0
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(model.trainable_variables)
    step = step_type(model, optimizer, None, 0.0, [1.0] * 6)
    images, labels = _batch()
    logits = keras.ops.convert_to_numpy(model(images, training=True)).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss = -np.log(shares[np.arange(6), labels]).sum()
    hits = (logits.argmax(axis=1) == labels).sum()
    step.totals = {"loss": 1.0, "accuracy": 2.0, "images": 3.0}
    step.run(images, labels, 0.0)
    expected = {"loss": 1 + loss, "accuracy": 2 + hits, "images": 9}
    assert step.totals == pytest.approx(expected, rel=1e-5)
    step.totals = backend.NO_TOTALS
    step.run(images, labels, 0.0)
    assert step.totals == pytest.approx({"loss": loss, "accuracy": hits, "images": 6}, rel=1e-5)


@on_tensorflow
@pytest.mark.parametrize("step_type", [steps._TensorFlowStep, steps._KerasStep])
@pytest.mark.parametrize("batch", [_batch, _mixed_batch])
def test_the_loss_of_smoothed_and_mixed_labels_is_keras_with_the_mean_class_weight(
    step_type, batch
):
    model = _model()
    model.layers[-2].rate = 0.0
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(model.trainable_variables)
    step = step_type(model, optimizer, np.array([0.5, 1.0, 4.0]), 0.3, [1.0] * 6)
    images, labels = batch()
    rows = labels if labels.ndim == 2 else np.eye(3)[labels]
    logits = keras.ops.convert_to_numpy(model(images, training=True))
    step.run(images, labels, 0.0)
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.3, reduction="none"
    )
    losses = keras.ops.convert_to_numpy(loss(rows, logits)) * (rows @ [0.5, 1.0, 4.0])
    hits = (logits.argmax(axis=1) == rows.argmax(axis=1)).sum()
    expected = {"loss": losses.sum(), "accuracy": hits, "images": 6}
    assert step.totals == pytest.approx(expected, rel=1e-5)


@on_tensorflow
def test_integers_and_rows_of_one_class_train_alike():
    results = []
    for as_rows in (False, True):
        model = _model()
        step = backend.train_step(model, keras.optimizers.SGD(0.1))
        for n in (6, 4):
            images, labels = _batch(n)
            step.run(images, np.eye(3, dtype=np.float32)[labels] if as_rows else labels, 0.1)
        results.append(model.get_weights())
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@on_tensorflow
def test_inference_is_the_model_and_compiles_at_most_twice():
    compiled_for = []

    class Noted(keras.layers.Layer):
        def call(self, x):
            compiled_for.append(x.shape)
            return x

    model = _model()
    noted = keras.Model(model.input, Noted()(model.output))
    compiled_for.clear()
    predict = backend.inference(noted)
    for n in (6, 6, 5, 4, 6, 3):
        images, _ = _batch(n)
        output = predict(images)
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, model(images, training=False), atol=1e-6)
    assert len(compiled_for) <= 2


def _bent(seed: int = 0):
    """A smooth net, with what it computes in float64."""
    generator = np.random.default_rng(seed)
    hidden, last = generator.normal(0, 0.5, (6, 5)), generator.normal(0, 0.5, (5, 3))
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, activation="tanh", use_bias=False)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(x))
    model.set_weights([hidden, last])
    return model, lambda x: np.tanh(x @ hidden) @ last


def _score(model):
    def score(x, factor, classes):
        chosen = keras.ops.one_hot(classes, 3)
        return factor * keras.ops.sum(model(x, training=False) * chosen, axis=-1)

    return score


def test_the_gradient_is_that_of_finite_differences():
    model, exact = _bent()
    generator = np.random.default_rng(1)
    x = generator.normal(size=(4, 6))
    factor, classes = np.float32([1, -2, 0.5, 3]), np.array([0, 2, 1, 2])
    values, gradient = backend.value_and_gradient(_score(model), model)(x, factor, classes)
    rows = np.arange(4)
    np.testing.assert_allclose(values, factor * exact(x)[rows, classes], rtol=1e-5)
    step = 1e-5 * np.eye(6)
    for i in range(6):
        difference = (exact(x + step[i]) - exact(x - step[i])) / 2e-5
        np.testing.assert_allclose(gradient[:, i], factor * difference[rows, classes], atol=1e-5)
    assert values.dtype == gradient.dtype == np.float32


def test_the_gradient_sees_weights_that_have_changed_and_changes_none():
    model, _ = _bent()
    x = np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    classes = np.array([0, 1])
    compute = backend.value_and_gradient(_score(model), model)
    before, _ = compute(x, np.float32(1), classes)
    weights = model.get_weights()
    model.set_weights([weights[0], 2 * weights[1]])
    after, gradient = compute(x, np.float32(1), classes)
    np.testing.assert_allclose(after, 2 * before, rtol=1e-6)
    np.testing.assert_array_equal(model.get_weights()[1], 2 * weights[1])
    other, _ = _bent(seed=3)
    model.set_weights(other.get_weights())
    expected = backend.value_and_gradient(_score(other), other)(x, np.float32(1), classes)
    received = compute(x, np.float32(1), classes)
    np.testing.assert_array_equal(received[1], expected[1])
    assert not np.array_equal(received[1], gradient)


def test_what_has_no_effect_has_a_gradient_of_zero():
    model, _ = _bent()
    x = np.ones((2, 6), np.float32)
    nothing = backend.value_and_gradient(lambda _, other: model(other, training=False)[:, 0], model)
    values, gradient = nothing(x, 2 * x)
    np.testing.assert_array_equal(gradient, np.zeros((2, 6)))
    np.testing.assert_allclose(values, keras.ops.convert_to_numpy(model(2 * x))[:, 0], rtol=1e-6)


@on_tensorflow
def test_the_gradient_is_compiled_once_for_a_shape():
    model, _ = _bent()
    traces = []

    def noted(*arguments):
        traces.append(1)
        return _score(model)(*arguments)

    compute = backend.value_and_gradient(noted, model)
    for classes in ([0, 1], [2, 2], [1, 0]):
        compute(np.ones((2, 6), np.float32), np.float32(1), np.array(classes))
    assert len(traces) == 1
