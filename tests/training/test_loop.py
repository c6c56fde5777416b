import itertools
import math
import re

import numpy as np
import pytest
from sklearn import metrics as sk

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.errors import ConfigError, ResourceError, RunError
from cvtrain.images.mixup_cutmix import mixed_batches
from cvtrain.models.convnet import build_convnet
from cvtrain.models.saved_model import weights_digest
from cvtrain.sections import Augment, Convnet, Optimizer, Schedule, Training
from cvtrain.system.signals import Stop
from cvtrain.training import loop, schedules
from cvtrain.training.checkpoint import Checkpoints
from cvtrain.training.loop import train

STEPS = 4
EPOCHS = 3
BATCH = 5
TIMES = {"seconds", "val_seconds", "images_per_second"}


pytestmark = pytest.mark.usefixtures("seeded_engine")


def _batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch that can be learnt: the brighter an image, the higher its class."""
    generator = np.random.default_rng([1, step])
    labels = generator.integers(0, 3, BATCH)
    noise = generator.integers(0, 40, (BATCH, 10, 10, 3))
    return (noise + 60 * labels[:, None, None, None]).astype(np.uint8), labels


def _batches(start: int):
    step = start
    while True:
        yield _batch(step)
        step += 1


def _mixed(start: int):
    """The same batches, blended or pasted."""
    mixing = Augment(mixup=0.2, cutmix=1.0)
    return mixed_batches(_batches(start), mixing, num_classes=3, seed=1, start_step=start)


def validation():
    yield from (_batch(step) for step in (1000, 1001))


def small_model(seed: int = 0, precision: str = "float32", **options) -> keras.Model:
    options = {"batch_normalization": True, "dense": (6,), "dropout": 0.5} | options
    net = Convnet(filters=(4,), **options)
    return build_convnet(net, image_size=(10, 10), num_classes=3, precision=precision, seed=seed)


OF_THE_STAGE = {
    *("epochs", "schedule", "label_smoothing", "ema", "metrics", "monitor", "early_stopping"),
}


def train_small(model: keras.Model, *, rate: float = 0.01, name: str = "adam", **options):
    """Train in a stage of these options; what is no option of a stage, `train` is given."""
    of_stage = {key: options.pop(key) for key in OF_THE_STAGE & options.keys()}
    optimizer = Optimizer(name=name, learning_rate=rate)
    stage = Training(**{"epochs": EPOCHS, "optimizer": optimizer} | of_stage)
    usual = {"batches": _batches, "validation": validation, "stop": Stop()}
    return train(model, stage, steps_per_epoch=STEPS, **usual | options)


def joined(batches):
    return tuple(np.concatenate(column) for column in zip(*batches, strict=True))


def _timeless(history):
    return [{key: row[key] for key in row.keys() - TIMES} for row in history]


@pytest.mark.parametrize("class_weights", [None, np.array([0.5, 1.0, 3.0])])
def test_training_is_keras_fit(class_weights):
    model, reference = small_model(), small_model()
    trained = train_small(model, class_weights=class_weights, monitor="val_loss")
    reference.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    reference.optimizer.learning_rate = 0.01
    weights, losses = [], []
    for epoch in range(EPOCHS):
        images, labels = joined(_batch(epoch * STEPS + step) for step in range(STEPS))
        kept = reference.fit(
            images,
            labels,
            batch_size=BATCH,
            shuffle=False,
            verbose=0,
            validation_data=joined(validation()),
            validation_batch_size=BATCH,
            class_weight=None if class_weights is None else dict(enumerate(class_weights)),
        ).history
        losses.append([kept[key][0] for key in ("loss", "accuracy", "val_loss", "val_accuracy")])
        weights.append(reference.get_weights())
    ours = [
        [row[key] for key in ("loss", "accuracy", "val_loss", "val_accuracy")]
        for row in trained.history
    ]
    np.testing.assert_allclose(ours, losses, rtol=1e-4)
    assert trained.best_epoch == 1 + int(np.argmin([row[2] for row in losses]))
    for mine, theirs in zip(model.get_weights(), weights[trained.best_epoch - 1], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_smoothed_labels_are_kerass_and_validation_is_plain():
    model, reference = (small_model(batch_normalization=False, dropout=0.0) for _ in range(2))
    trained = train_small(model, epochs=1, label_smoothing=0.2)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)
    reference.compile("adam", loss)
    reference.optimizer.learning_rate = 0.01
    images, labels = joined(_batch(step) for step in range(STEPS))
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    kept = reference.fit(images, np.eye(3)[labels], **options).history
    for mine, theirs in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    (row,) = trained.history
    assert row["loss"] == pytest.approx(kept["loss"][0], rel=1e-4)
    reference.compile(loss="sparse_categorical_crossentropy")
    plain = reference.evaluate(*joined(validation()), verbose=0)
    assert row["val_loss"] == pytest.approx(plain, rel=1e-4)


def test_mixed_batches_are_kerass_soft_labels():
    model, reference = (small_model(batch_normalization=False, dropout=0.0) for _ in range(2))
    train_small(model, epochs=1, batches=_mixed)
    reference.compile("adam", "categorical_crossentropy")
    reference.optimizer.learning_rate = 0.01
    for _, (images, rows) in zip(range(STEPS), _mixed(0), strict=False):
        reference.train_on_batch(images, rows)
    for mine, theirs in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_the_same_seed_trains_the_same_weights():
    digests = []
    for seed in (0, 0, 1):
        model = small_model(seed)
        train_small(model)
        digests.append(weights_digest(model))
    assert digests[0] == digests[1] != digests[2]


class _Everywhere(Checkpoints):
    """Saves whenever it is asked."""

    def due(self, **_) -> bool:
        return True


class _Crash(BaseException):
    pass


def _resumable(**options):
    schedule = Schedule(name="plateau", factor=0.5, patience=1)
    more = {"metrics": ("macro_f1", "top_5"), "monitor": "val_macro_f1"}
    return {"schedule": schedule, "name": "rmsprop", **more} | options


@pytest.fixture
def _reports_every_step(monkeypatch):
    monkeypatch.setattr(loop, "_REPORT_SECONDS", 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("_reports_every_step")
@pytest.mark.parametrize(
    ("crash_at", "ema", "stream"),
    [
        *itertools.product([0, 2, 4, 7, 11], [None, 0.9], [_batches]),
        *itertools.product([2, 7], [None], [_mixed]),
    ],
)
def test_resumed_after_a_crash_it_is_the_uninterrupted_training(
    tmp_path, monkeypatch, crash_at, ema, stream
):
    monkeypatch.setattr(schedules, "_MIN_DELTA", 0.2)
    straight = small_model()
    expected = train_small(straight, **_resumable(ema=ema, batches=stream))

    def crashing(start: int):
        for step, batch in enumerate(stream(start), start):
            if step == crash_at:
                raise _Crash
            yield batch

    with pytest.raises(_Crash):
        train_small(
            small_model(),
            **_resumable(ema=ema, batches=crashing, checkpoints=_Everywhere(tmp_path)),
        )
    starts = []

    def resumed_batches(start: int):
        starts.append(start)
        return stream(start)

    # Whatever it starts from: all is in the checkpoint, but for a crash before the first one.
    resumed = small_model(seed=5 if crash_at else 0)
    trained = train_small(
        resumed, **_resumable(ema=ema, batches=resumed_batches, checkpoints=_Everywhere(tmp_path))
    )
    assert starts == [crash_at]
    assert weights_digest(resumed) == weights_digest(straight)
    assert _timeless(trained.history) == _timeless(expected.history)
    assert trained.best_epoch == expected.best_epoch


@pytest.mark.usefixtures("_reports_every_step")
def test_a_checkpoint_of_an_earlier_version_has_its_totals_in_a_list(tmp_path):
    straight = small_model()
    expected = train_small(straight)
    stop = Stop()

    def stopping(start: int):
        for step, batch in enumerate(_batches(start), start):
            stop.requested = step == STEPS + 1
            yield batch

    checkpoints = Checkpoints(tmp_path)
    train_small(small_model(), batches=stopping, stop=stop, checkpoints=checkpoints)
    snapshot = checkpoints.load()
    assert snapshot.values["totals"]["images"] == 2 * BATCH
    snapshot.values["totals"] = [*snapshot.values["totals"].values()]
    checkpoints.save(snapshot)
    resumed = small_model()
    again = train_small(resumed, checkpoints=checkpoints)
    assert _timeless(again.history) == _timeless(expected.history)
    assert weights_digest(resumed) == weights_digest(straight)


def test_asked_to_stop_it_commits_and_can_be_resumed(tmp_path):
    straight = small_model()
    expected = train_small(straight)
    stop = Stop()

    def stopping(start: int):
        for step, batch in enumerate(_batches(start), start):
            stop.requested = step == STEPS + 1
            yield batch

    model = small_model()
    trained = train_small(model, batches=stopping, stop=stop, checkpoints=Checkpoints(tmp_path))
    assert (trained.outcome, len(trained.history), trained.best_epoch) == ("stopped", 1, 1)
    resumed = small_model()
    again = train_small(resumed, checkpoints=Checkpoints(tmp_path))
    assert again.outcome == "finished"
    assert _timeless(again.history) == _timeless(expected.history)
    assert weights_digest(resumed) == weights_digest(straight)


def test_stopped_during_validation_the_epoch_is_validated_on_resume(tmp_path):
    straight = small_model()
    expected = train_small(straight)
    stop = Stop()

    def stopping():
        for batch in validation():
            stop.requested = True
            yield batch

    trained = train_small(
        small_model(), validation=stopping, stop=stop, checkpoints=Checkpoints(tmp_path)
    )
    assert (trained.outcome, trained.history) == ("stopped", [])
    resumed = small_model()
    again = train_small(resumed, checkpoints=Checkpoints(tmp_path))
    assert _timeless(again.history) == _timeless(expected.history)
    assert weights_digest(resumed) == weights_digest(straight)


def _no_batches(start: int):
    raise AssertionError(f"asked for batches from step {start}")
    yield


def test_a_finished_training_is_not_continued(tmp_path):
    first = small_model()
    done = train_small(first, checkpoints=Checkpoints(tmp_path))
    second = small_model(seed=1)
    again = train_small(second, batches=_no_batches, checkpoints=Checkpoints(tmp_path))
    assert again == done
    assert weights_digest(second) == weights_digest(first)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train_small(small_model(), epochs=1, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(RunError, match="another model"):
        train_small(small_model(dense=(7,)), checkpoints=Checkpoints(tmp_path))
    with pytest.raises(RunError, match="another optimizer"):
        train_small(small_model(), name="sgd", checkpoints=Checkpoints(tmp_path))


def test_a_loss_that_is_not_finite_ends_the_training_and_is_never_best(monkeypatch):
    rates = lambda step: 0.01 if step < STEPS else 1e30  # noqa: E731
    monkeypatch.setattr(loop, "build_schedule", lambda *_, **__: rates)
    model = small_model()
    best = []
    trained = train_small(
        model,
        on_epoch=lambda _: best.append(weights_digest(model)),
        name="sgd",
    )
    assert (trained.outcome, trained.best_epoch, len(trained.history)) == ("diverged", 1, 1)
    assert re.match(r"epoch 2, step \d of 4: the .*loss is (nan|inf)", trained.reason)
    assert best == [weights_digest(model)]


def test_a_validation_loss_that_alone_is_not_finite_ends_the_training(monkeypatch):
    losses = iter([1.0, 1.0, 1.0, math.inf])  # of one batch after the other, two an epoch
    monkeypatch.setattr(loop, "_cross_entropy", lambda *_: np.full(BATCH, next(losses)))
    trained = train_small(small_model())
    assert (trained.outcome, trained.best_epoch) == ("diverged", 1)
    assert trained.reason == "epoch 2, step 4 of 4: the validation loss is inf"


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_normalising_hides_from_the_losses_that_its_statistics_overflow(name):
    """Divided by an infinite variance all values are 0, and so finite losses go on and on."""
    model = small_model(dense=(), dropout=0.0)
    trained = train_small(model, name=name, rate=1e25)
    assert (trained.outcome, trained.best_epoch, trained.history) == ("diverged", None, [])
    assert re.match(r"epoch 1, step 4 of 4: weights are not finite \(\w+/", trained.reason)


def _spoiling(variable, at: int):
    """The usual batches; before one of them a value of `variable` becomes infinite."""

    def batches(start: int):
        for step, batch in enumerate(_batches(start), start):
            if step == at:
                values = np.array(variable())
                values.flat[0] = np.inf
                variable().assign(values)
            yield batch

    return batches


@pytest.mark.slow
@pytest.mark.usefixtures("_reports_every_step")
@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("model", r"weights are not finite \(conv1_norm/moving_variance\)"),
        ("optimizer", r"values that the optimizer keeps are not finite \(\w+_velocity\)"),
    ],
)
def test_what_is_not_finite_is_never_kept_nor_committed(tmp_path, monkeypatch, where, what, ema):
    """Neither in the last step, nor in a checkpoint; a training that is resumed ends the same."""
    endings = []
    for _ in range(2):
        model, optimizer = small_model(), keras.optimizers.RMSprop(0.01)
        monkeypatch.setattr(loop, "build_optimizer", lambda *_, built=optimizer, **__: built)
        of = {
            "model": lambda model=model: model.get_layer("conv1_norm").moving_variance,
            "optimizer": lambda optimizer=optimizer: next(
                each for each in optimizer.variables if "velocity" in each.path
            ),
        }
        trained = train_small(
            model,
            ema=ema,
            batches=_spoiling(of[where], EPOCHS * STEPS - 1),
            checkpoints=_Everywhere(tmp_path),
        )
        assert (trained.outcome, len(trained.history)) == ("diverged", EPOCHS - 1)
        assert re.match(f"epoch {EPOCHS}, step {STEPS} of {STEPS}: {what}", trained.reason)
        assert all(np.isfinite(weights).all() for weights in model.get_weights())
        endings.append((trained.reason, trained.best_epoch, weights_digest(model)))
    assert endings[0] == endings[1]
    for array in Checkpoints(tmp_path).load().arrays.values():
        assert np.isfinite(array).all()


@pytest.fixture(scope="module")
def good():
    """Weights that know the classes already."""
    backend.set_up(seed=0, device="cpu")
    model = small_model(batch_normalization=False, dropout=0.0)
    train_small(model, epochs=8)
    return model.get_weights()


def _tuned(good, rate: float, **options):
    """A training from these weights, which counts them as epoch 0; the model, and how it ended."""
    model = small_model(batch_normalization=False, dropout=0.0)
    model.set_weights(good)
    return model, train_small(model, rate=rate, keep_start=True, **options)


def _same(weights, others) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights, others, strict=True))


def test_a_start_that_no_epoch_beats_is_kept(good):
    model, trained = _tuned(good, 3.0)
    assert _same(model.get_weights(), good)
    assert (trained.best_epoch, len(trained.history)) == (0, EPOCHS)
    assert min(row["val_loss"] for row in trained.history) > trained.start["val_loss"]
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(*joined(validation()), verbose=0)
    assert trained.start["val_loss"] == pytest.approx(loss, rel=1e-4)
    assert trained.start["val_accuracy"] == pytest.approx(accuracy)


def test_a_start_that_an_epoch_beats_is_not_kept(good):
    model, trained = _tuned(good, 1e-3)
    losses = [row["val_loss"] for row in trained.history]
    assert trained.best_epoch == 1 + int(np.argmin(losses))
    assert min(losses) < trained.start["val_loss"]
    assert not _same(model.get_weights(), good)


def test_patience_counts_epochs_that_improve_on_each_other_though_not_on_the_start(monkeypatch):
    losses = itertools.chain([1.0], [4.0, 3.0, 2.0, 2.5])  # the start's, then those of epochs
    mean = {"val_accuracy": 0.5}
    monkeypatch.setattr(loop, "_validate", lambda *_: mean | {"val_loss": next(losses)})
    trained = train_small(small_model(), epochs=9, early_stopping=1, keep_start=True)
    assert (trained.outcome, len(trained.history)) == ("early_stopped", 4)
    assert (trained.best_epoch, trained.start["val_loss"]) == (0, 1.0)


@pytest.mark.slow
@pytest.mark.usefixtures("_reports_every_step")
@pytest.mark.parametrize(("crash_at", "rate"), [(0, 3.0), (2, 3.0), (7, 1e-3)])
def test_what_it_started_from_survives_a_crash(tmp_path, good, crash_at, rate):
    straight, expected = _tuned(good, rate)

    def crashing(start: int):
        for step, batch in enumerate(_batches(start), start):
            if step == crash_at:
                raise _Crash
            yield batch

    with pytest.raises(_Crash):
        _tuned(good, rate, batches=crashing, checkpoints=_Everywhere(tmp_path))
    resumed, trained = _tuned(good, rate, checkpoints=_Everywhere(tmp_path))
    assert weights_digest(resumed) == weights_digest(straight)
    assert _timeless(trained.history) == _timeless(expected.history)
    assert (trained.best_epoch, trained.start) == (expected.best_epoch, expected.start)


def test_stopped_while_the_start_is_validated_it_is_validated_on_resume(tmp_path, good):
    stop = Stop()

    def stopping():
        for batch in validation():
            stop.requested = True
            yield batch

    checkpoints = {"checkpoints": Checkpoints(tmp_path)}
    _, stopped = _tuned(good, 3.0, validation=stopping, stop=stop, **checkpoints)
    assert (stopped.outcome, stopped.best_epoch, stopped.start) == ("stopped", None, None)
    model, trained = _tuned(good, 3.0, **checkpoints)
    assert (trained.best_epoch, len(trained.history)) == (0, EPOCHS)
    assert _same(model.get_weights(), good)


def _validation_with_hits(model: keras.Model, hits: list[int]):
    """Validation in which the model, which hardly moves, is right on so many of ten images."""
    epochs = iter(hits)
    images = np.concatenate([_batch(1000)[0], _batch(1001)[0]])
    answers = np.argmax(model(images, training=False), axis=1)

    def validation():
        right = next(epochs)
        labels = np.where(np.arange(10) < right, answers, (answers + 1) % 3)
        yield images, labels

    return validation


def test_metrics_of_validation_are_scikit_learns_and_can_be_monitored():
    model = small_model()
    trained = train_small(model, metrics=("auc", "macro_f1"), monitor="val_macro_f1")
    values = [row["val_macro_f1"] for row in trained.history]
    assert trained.best_epoch == 1 + int(np.argmax(values))
    images, labels = joined(validation())
    probabilities = model.predict(images, verbose=0)
    row = trained.history[trained.best_epoch - 1]
    predicted = probabilities.argmax(axis=1)
    assert row["val_macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    auc = sk.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert row["val_auc"] == pytest.approx(auc, abs=1e-6)


def test_metrics_do_not_change_what_is_trained():
    plain, measured = small_model(), small_model()
    expected = train_small(plain)
    trained = train_small(measured, metrics=("auc", "top_5"))
    assert weights_digest(measured) == weights_digest(plain)
    without = [
        {k: v for k, v in row.items() if k not in ("val_auc", "val_top_5")}
        for row in _timeless(trained.history)
    ]
    assert without == _timeless(expected.history)


def test_early_stopping_keeps_the_first_of_the_best():
    model = small_model(batch_normalization=False, dropout=0.0)
    weights = []
    trained = train_small(
        model,
        epochs=9,
        rate=1e-7,
        name="sgd",
        validation=_validation_with_hits(model, [3, 6, 5, 8, 8, 7, 9, 9, 9]),
        monitor="val_accuracy",
        early_stopping=2,
        on_epoch=lambda _: weights.append(weights_digest(model)),
    )
    # 8 of 10 in epoch 4; the same in 5 and less in 6 are two epochs without improvement.
    assert [row["val_accuracy"] for row in trained.history] == [0.3, 0.6, 0.5, 0.8, 0.8, 0.7]
    assert (trained.outcome, trained.best_epoch) == ("early_stopped", 4)
    assert weights_digest(model) == weights[3] != weights[4]


def test_rates_in_the_history_follow_schedule_and_plateau(monkeypatch):
    rising = lambda step: 1e-7 * (1 + step)  # noqa: E731
    monkeypatch.setattr(loop, "build_schedule", lambda *_, **__: rising)
    model = small_model(batch_normalization=False, dropout=0.0)
    trained = train_small(
        model,
        epochs=4,
        rate=1e-7,
        name="sgd",
        validation=_validation_with_hits(model, [5, 5, 5, 5]),
        monitor="val_accuracy",
        schedule=Schedule(name="plateau", factor=0.5, patience=1),
    )
    rates = [row["learning_rate"] for row in trained.history]
    assert rates == pytest.approx([4e-7, 8e-7, 6e-7, 4e-7])
    assert [row["step"] for row in trained.history] == [4, 8, 12, 16]


@pytest.mark.usefixtures("_reports_every_step")
def test_progress_is_of_the_epoch_so_far():
    seen = []
    train_small(small_model(), epochs=2, on_step=seen.append)
    assert [(p.epoch, p.step) for p in seen] == [(e, s) for e in (1, 2) for s in (1, 2, 3, 4)]
    assert {(p.epochs, p.steps_per_epoch) for p in seen} == {(2, 4)}
    assert all(p.metrics.keys() == {"loss", "accuracy"} for p in seen)
    assert all(p.metrics["loss"] > 0 and 0 <= p.metrics["accuracy"] <= 1 for p in seen)
    assert all(p.images_per_second > 0 for p in seen)


def test_kerass_environment_cuts_a_training_short(monkeypatch):
    monkeypatch.setenv("KERAS_MAX_EPOCHS", "1")
    monkeypatch.setenv("KERAS_MAX_STEPS_PER_EPOCH", "2")
    trained = train_small(small_model())
    assert [row["step"] for row in trained.history] == [2]
    assert trained.outcome == "finished"


@pytest.mark.parametrize("value", ["0", "-1", "many", "", "1.5", "²"])
def test_kerass_environment_may_be_wrong(monkeypatch, value):
    monkeypatch.setenv("KERAS_MAX_EPOCHS", value)
    with pytest.raises(ConfigError, match="KERAS_MAX_EPOCHS: must be a whole number"):
        train_small(small_model())


def test_out_of_memory_says_which_knob_to_turn():
    def hungry(start: int):
        yield _batch(start)
        raise MemoryError

    with pytest.raises(ResourceError, match="memory does not suffice") as caught:
        train_small(small_model(), batches=hungry)
    assert "batch_size" in caught.value.advice
    assert "data.image_size" in caught.value.advice


def test_streams_are_closed_when_training_ends():
    closed = []

    def noted(start: int):
        try:
            yield from _batches(start)
        finally:
            closed.append("batches")

    def noted_validation():
        try:
            yield from validation()
        finally:
            closed.append("validation")

    train_small(small_model(), epochs=1, batches=noted, validation=noted_validation)
    assert closed == ["validation", "batches"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_learns_and_resumes_like_float32(tmp_path, precision):
    def options():
        return {
            "name": "sgd",
            "rate": 0.05,
            "precision": precision,
            "epochs": 4,
        }

    straight, resumed = small_model(precision=precision), small_model(precision=precision)
    trained = train_small(straight, **options())
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    train_small(resumed, **options() | {"epochs": 2}, checkpoints=Checkpoints(tmp_path))
    resumed = small_model(precision=precision, seed=1)
    train_small(resumed, **options(), checkpoints=Checkpoints(tmp_path))
    assert weights_digest(resumed) == weights_digest(straight)
