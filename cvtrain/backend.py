"""The one file that knows which engine Keras runs on: devices, compiled steps, memory errors.

Whoever needs Keras takes it from here (`from cvtrain.backend import keras`), so that the engine's
start-up chatter is silenced before it loads; `TF_CPP_MIN_LOG_LEVEL=0` brings the chatter back.
TensorFlow, Keras' default engine, gets steps compiled to graphs of its own, with XLA for the
optimizer alone: on processors its convolutions are half as fast. Any other engine runs Keras'
`train_on_batch`.
"""

import contextlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cvtrain import __version__
from cvtrain.errors import ResourceError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Discard what the engine's C++ writes to stderr before it obeys any log level."""
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


with _quiet():
    import keras

    ENGINE: str = keras.backend.backend()
    if ENGINE == "tensorflow":
        import tensorflow as tf

        if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0":
            # A command compiles several models, which TensorFlow takes for one compiled too often.
            tf.get_logger().setLevel("ERROR")


# Devices


def set_up(*, seed: int, device: str = "auto") -> str:
    """Choose the device, seed every generator and make operations deterministic.

    Call it before any model is built: an engine cannot change its device later.

    Args:
        seed: seeds Python's, NumPy's and the engine's generators.
        device: `auto` (a GPU if there is one), `cpu` or `gpu`.

    Returns:
        The device in words: `cpu: AMD EPYC 7B13, 8 threads` or `gpu: NVIDIA H200`.

    Raises:
        ResourceError: a GPU was asked for and there is none, or the device cannot be changed.
    """
    keras.utils.set_random_seed(seed)
    with _quiet():
        gpus = _gpus()
        if device == "gpu" and not gpus:
            raise ResourceError(
                f"device: a gpu was asked for, {ENGINE} sees none on this machine",
                f"Install a build of {ENGINE} for your GPU, or set device to auto or cpu.",
            )
        if gpus and device == "cpu":
            _hide_gpus()
            gpus = []
        if ENGINE == "tensorflow":
            for gpu in tf.config.get_visible_devices("GPU"):
                # Not growing means that TensorFlow takes the whole memory from every other process.
                if not tf.config.experimental.get_memory_growth(gpu):
                    tf.config.experimental.set_memory_growth(gpu, True)
            tf.config.experimental.enable_op_determinism()
    if gpus:
        return f"gpu: {', '.join(gpus)}"
    return f"cpu: {_processor()}, {_num_threads()} threads"


def versions() -> dict[str, str]:
    """The versions that a result depends on: Python, cvtrain, Keras, NumPy and the engine."""
    return {
        "python": platform.python_version(),
        "cvtrain": __version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        ENGINE: str(sys.modules[ENGINE].__version__),
    }


def has_gpu_build() -> bool:
    """Could this build of the engine use a GPU, if there were one? True where it does not tell."""
    if ENGINE == "tensorflow":
        return bool(tf.test.is_built_with_gpu_support())
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Does `error`, from any engine or from NumPy, say that memory did not suffice?"""
    words = f"{type(error).__name__} {error}".lower().replace("_", "")
    marks = ("resourceexhausted", "outofmemory", "out of memory", "oom when allocating")
    return isinstance(error, MemoryError) or any(mark in words for mark in marks)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn an engine's running out of memory inside the block into a ResourceError."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise ResourceError(
            f"the memory does not suffice: {reason}",
            "Lower batch_size first; then data.image_size, or the model's filters or dense.",
        ) from error


def _gpus() -> list[str]:
    if ENGINE == "tensorflow":
        gpus = tf.config.list_physical_devices("GPU")
        details = tf.config.experimental.get_device_details
        return [str(details(gpu).get("device_name", gpu.name)) for gpu in gpus]
    if ENGINE == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _hide_gpus() -> None:
    try:
        if ENGINE == "tensorflow":
            tf.config.set_visible_devices([], "GPU")
        elif ENGINE == "jax":
            import jax

            jax.config.update("jax_default_device", jax.devices("cpu")[0])
        else:
            raise RuntimeError("Keras' torch engine chooses when it loads")
    except RuntimeError as error:
        raise ResourceError(
            f"device: cannot change to cpu any more ({error})",
            "Start a new process with CUDA_VISIBLE_DEVICES='' in its environment.",
        ) from error


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _num_threads() -> int:
    with contextlib.suppress(AttributeError):  # Linux alone says which cores this process has.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Inside the block, models are made without memory: they have shapes, and no numbers."""
    graph = tf.Graph().as_default() if ENGINE == "tensorflow" else contextlib.nullcontext()
    with keras.StatelessScope(initialize_variables=False), graph:
        yield


# Steps


class TrainStep(Protocol):
    """One optimizer step on a batch, with running sums.

    Attributes:
        totals: float64, shape (3,): loss summed over images (weighted by class if weights were
            given), images classified correctly, images; since `totals` was last set. Reading it
            waits for the device.
    """

    totals: np.ndarray

    def __call__(self, images: np.ndarray, labels: np.ndarray, learning_rate: float) -> None:
        """Update the weights by the batch: images as the model takes them, labels (n,) integers or,
        of mixed images, (n, classes) shares that sum to 1.

        The loss is the mean over images of class weight times cross-entropy, as in Keras. The
        weight of a mixed image is the mean of its classes' by their shares; it is classified
        correctly as the class with the largest share.
        """


def train_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    class_weights: np.ndarray | None = None,
    label_smoothing: float = 0.0,
    rates: Sequence[float] | None = None,
) -> TrainStep:
    """Compile the training step of `model`, which returns logits, for the engine.

    Args:
        model: from a batch of images to logits (n, classes).
        optimizer: updates `model.trainable_variables`; built here if it is not yet.
        class_weights: (classes,) factors of the loss; None for ones.
        label_smoothing: share of each label, in [0, 1), that is spread evenly over all classes
            (Szegedy et al. 2016, arXiv:1512.00567, section 7).
        rates: factor of the learning rate of each of `model.trainable_variables`; None for ones.
            Every optimizer here moves a variable in proportion to its rate, so the factor is
            applied to the movement.
    """
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    step = _TensorFlowStep if ENGINE == "tensorflow" else _KerasStep
    rates = rates or [1.0] * len(model.trainable_variables)
    return step(model, optimizer, class_weights, label_smoothing, rates)


def moving_average(
    averages: Sequence[keras.Variable], variables: Sequence[keras.Variable]
) -> Callable[[float], None]:
    """Compile one update of exponential moving averages.

    Returns:
        A function of the decay d in 0..1: each average a goes on to a + (1 - d) (v - a), with its
        variable v. Where the two are equal, a stays as it is to the last bit.
    """

    def update(share):
        for average, variable in zip(averages, variables, strict=True):
            average.assign(average.value + share * (variable.value - average.value))

    if ENGINE != "tensorflow":
        return lambda decay: update(1 - decay)
    # As in the optimizer, XLA makes one pass over the memory out of several.
    on_cpu = not tf.config.get_visible_devices("GPU")
    compiled = tf.function(update, jit_compile=on_cpu, autograph=False)
    return lambda decay: compiled(np.asarray(1 - decay, np.float32))


def inference(model: keras.Model, *, dtype: str = "float32") -> Callable[[np.ndarray], Any]:
    """Compile `model` for inference: a batch of any size -> its output, or a list of its outputs.

    A last, smaller batch costs at most one more compilation for the whole life of the function.

    Args:
        model: with one output, or a list of them.
        dtype: of the arrays that come out: `float32` or `bfloat16`.
    """
    convert = keras.tree.map_structure
    if ENGINE != "tensorflow":
        return lambda batch: convert(
            lambda output: np.asarray(output).astype(dtype), model.predict_on_batch(batch)
        )

    @tf.function(jit_compile=False, reduce_retracing=True, autograph=False)
    def run(batch):
        return convert(lambda output: tf.cast(output, dtype), model(batch, training=False))

    return lambda batch: convert(lambda output: output.numpy(), run(batch))


def value_and_gradient(
    function: Callable[..., Any], model: keras.Model
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Compile one value for each row of a batch, and how it changes with the batch.

    Compiled once for each shape, so whoever has a last, smaller batch fills it up. The variables of
    `model` are read anew at every call.

    Args:
        function: (x, *others) -> values (n,), one for each row of x, in operations of `keras.ops`
            and calls of `model` with `training=False`. Rows do not depend on each other.
        model: whose variables the function reads.

    Returns:
        A function of float32 x and arrays of anything else -> values (n,) and their gradient, the
        derivative of each value by its row of x, both float32; zeros where x has no effect.
    """
    compiled = {"tensorflow": _tensorflow_gradient, "jax": _jax_gradient, "torch": _torch_gradient}
    run = compiled[ENGINE](function, model)

    def call(x, *others):
        results = run(np.asarray(x, np.float32), *others)
        return tuple(keras.ops.convert_to_numpy(result).astype(np.float32) for result in results)

    return call


def _tensorflow_gradient(function, _model):
    @tf.function(jit_compile=False, reduce_retracing=True, autograph=False)
    def run(x, *others):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values = function(x, *others)
        return values, tape.gradient(values, x, unconnected_gradients="zero")

    return run


def _jax_gradient(function, model):
    import jax

    def total(x, others, variables):
        with keras.StatelessScope(zip(model.variables, variables, strict=True)):
            values = function(x, *others)
        return values.sum(), values

    @jax.jit
    def compiled(x, others, variables):
        (_, values), gradient = jax.value_and_grad(total, has_aux=True)(x, others, variables)
        return values, gradient

    return lambda x, *others: compiled(x, others, [each.value for each in model.variables])


def _torch_gradient(function, _model):
    import torch

    def run(x, *others):
        # A copy, and of its own: an array may be read-only, a leaf must not be another's.
        x = keras.ops.convert_to_tensor(x.copy()).requires_grad_()
        values = function(x, *map(keras.ops.convert_to_tensor, others))
        # Zero times x, because torch refuses what does not depend on it.
        (gradient,) = torch.autograd.grad(values.sum() + 0 * x.sum(), x)
        return values, gradient

    return run


def _slowed(model, rates):
    """The trainable variables whose learning rate has a factor, with it."""
    pairs = zip(model.trainable_variables, rates, strict=True)
    return [(variable, rate) for variable, rate in pairs if rate != 1.0]


def _rows(labels, num_classes):
    """Labels as shares of the classes, float32 (n, classes)."""
    if labels.ndim == 2:
        return labels.astype(np.float32, copy=False)
    rows = np.zeros((len(labels), num_classes), np.float32)
    rows[np.arange(len(labels)), labels] = 1.0
    return rows


class _TensorFlowStep:
    def __init__(self, model, optimizer, class_weights, label_smoothing, rates):
        self._sums = tf.Variable(np.zeros(3), dtype=tf.float64)
        self._num_classes = model.output_shape[-1]
        weights = None if class_weights is None else tf.constant(class_weights, tf.float32)
        spread = label_smoothing / self._num_classes

        slowed = _slowed(model, rates)
        # An optimizer is many small operations on large arrays: XLA fuses them, on processors too.
        on_cpu = not tf.config.get_visible_devices("GPU")

        @tf.function(jit_compile=on_cpu, autograph=False)
        def update(*gradients):
            before = [tf.identity(variable.value) for variable, _ in slowed]
            optimizer.apply(gradients, model.trainable_variables)
            for (variable, rate), old in zip(slowed, before, strict=True):
                variable.assign(old + rate * (variable.value - old))

        @tf.function(jit_compile=False, reduce_retracing=True, autograph=False)
        def step(images, rows, learning_rate):
            optimizer.learning_rate.assign(learning_rate)
            with tf.GradientTape() as tape:
                logits = tf.cast(model(images, training=True), tf.float32)
                targets = (1.0 - label_smoothing) * rows + spread
                losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
                if weights is not None:
                    losses *= tf.linalg.matvec(rows, weights)
                scaled = optimizer.scale_loss(tf.reduce_mean(losses))
            gradients = tape.gradient(scaled, model.trainable_variables)
            update(*gradients)
            hits = tf.argmax(logits, axis=1) == tf.argmax(rows, axis=1)
            sums = [tf.reduce_sum(losses), tf.math.count_nonzero(hits), tf.size(hits)]
            self._sums.assign_add(tf.stack([tf.cast(each, tf.float64) for each in sums]))

        self._step = step

    def __call__(self, images, labels, learning_rate):
        # Arrays, because a graph is compiled for each value of a plain number.
        rows = _rows(labels, self._num_classes)
        self._step(images, rows, np.asarray(learning_rate, np.float32))

    @property
    def totals(self):
        return self._sums.numpy().copy()

    @totals.setter
    def totals(self, values):
        self._sums.assign(np.asarray(values, np.float64))


class _KerasStep:
    def __init__(self, model, optimizer, class_weights, label_smoothing, rates):
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        )
        model.compile(optimizer, loss, metrics=["categorical_accuracy"])
        self._model = model
        self._class_weights = class_weights
        self._slowed = _slowed(model, rates)
        self.totals = np.zeros(3)

    def __call__(self, images, labels, learning_rate):
        self._model.optimizer.learning_rate = learning_rate
        rows = _rows(labels, self._model.output_shape[-1])
        weights = None if self._class_weights is None else rows @ self._class_weights
        # Keras' metrics run on from batch to batch and cannot be set: read each batch's own.
        self._model.reset_metrics()
        before = [np.array(variable) for variable, _ in self._slowed]
        batch = self._model.train_on_batch(images, rows, weights, return_dict=True)
        for (variable, rate), old in zip(self._slowed, before, strict=True):
            variable.assign(old + rate * (np.array(variable) - old))
        means = np.array([batch["loss"], batch["categorical_accuracy"], 1.0], np.float64)
        self.totals = self.totals + len(labels) * means
