"""The middle of every command that trains on images: a run is started, a model trained in it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cvtrain.config import Augment, Config, Fit, Schedule, dump_config
from cvtrain.console import Console, duration
from cvtrain.data.augment import Augmentation, augment
from cvtrain.data.batches import num_steps, ordered_batches, training_batches
from cvtrain.data.index import Split
from cvtrain.errors import Stopped, TrainingError
from cvtrain.files import commit_json, commit_text, csv_text, sha256_bytes
from cvtrain.pipelines.dataset import Dataset
from cvtrain.run import Run
from cvtrain.signals import Stop
from cvtrain.stopwatch import Stopwatch

if TYPE_CHECKING:
    import keras

    from cvtrain.training.loop import Row, Trained
    from cvtrain.training.schedules import Plateau

VALIDATION_BATCH_SIZE = 64


def start_run(
    run: Run, config: Config, dataset: Dataset, *, name: str, watch: Stopwatch, console: Console
) -> None:
    """Record what is known before training, and load the engine."""
    console.log_to(run.path / "log.txt")
    console.remark(f"run: {run.path}")
    run.record.pop("error", None)
    commit_text(run.path / "config.yaml", dump_config(config))
    commit_json(run.path / "split.json", dataset.index.by_class())
    run.update(
        name=name,
        status="running",
        seed=config.seed,
        class_names=list(dataset.index.class_names),
        image_size=list(config.data.image_size),
        decoder={"resize": config.data.resize, "background": list(config.data.background)},
        data=dataset.describe(),
    )
    with watch.phase("import"):
        from cvtrain import backend
    device = backend.set_up(seed=config.seed, device=config.device)
    run.update(device=device, versions=backend.versions())


def train_on_images(
    build: Callable[..., "keras.Model"],
    stage: Fit,
    config: Config,
    dataset: Dataset,
    run: Run,
    *,
    watch: Stopwatch,
    stop: Stop,
    console: Console,
) -> "keras.Model":
    """Train a model and save its best weights.

    Args:
        build: `build(precision=..., for_training=...)` makes the model.
        stage: how to train.

    Returns:
        The best model, computing in float32, as it was saved.

    Raises:
        TrainingError, ResourceError, RunError: as `training.loop.train` does.
        Stopped: on request. What was learnt is saved in every case.
    """
    from cvtrain.training.checkpoint import Checkpoints
    from cvtrain.training.loop import train
    from cvtrain.training.optimizers import build_optimizer
    from cvtrain.training.schedules import build_schedule

    samples, validation = dataset.index.splits["train"], dataset.index.splits["validation"]
    steps = stage.steps_per_epoch or num_steps(len(samples.paths), stage.batch_size)
    augmentation = augmentation_of(config.augment)
    if augmentation:
        draw_augmentation(run, dataset, augmentation, config.seed)
    with watch.phase("precision"):
        model = build_in_best_precision(build, stage, config, steps, run, console)
    identity = {"config": sha256_bytes(dump_config(config).encode()), "data": dataset.digest}

    with watch.phase("train"), console.training() as view:

        def on_epoch(rows: "list[Row]") -> None:
            write_history(run, rows)
            view.epoch(rows[-1])

        try:
            trained = train(
                model,
                batches=lambda step: training_batches(
                    dataset.pixels,
                    samples,
                    batch_size=stage.batch_size,
                    seed=config.seed,
                    steps_per_epoch=stage.steps_per_epoch,
                    start_step=step,
                    augmentation=augmentation,
                ),
                validation=lambda: ordered_batches(
                    dataset.pixels, validation, batch_size=VALIDATION_BATCH_SIZE
                ),
                epochs=stage.epochs,
                steps_per_epoch=steps,
                optimizer=build_optimizer(
                    **stage.optimizer.model_dump(), precision=run.record["precision"]
                ),
                schedule=build_schedule(**schedule_settings(stage, steps)),
                plateau=plateau_of(stage.schedule),
                class_weights=class_weights_of(stage, samples),
                monitor=stage.monitor,
                patience=stage.early_stopping,
                checkpoints=Checkpoints(run.checkpoints, identity=identity, warn=console.warn),
                stop=stop,
                on_step=view.step,
                on_epoch=on_epoch,
            )
        except TrainingError:
            # Without a finished epoch there are no best weights, only those that are not finite.
            if all(np.isfinite(weights).all() for weights in model.get_weights()):
                save(run, build, model)
            raise
    best = save(run, build, model)
    record_training(run, trained)
    return best


def build_in_best_precision(
    build: Callable[..., "keras.Model"],
    stage: Fit,
    config: Config,
    steps_per_epoch: int,
    run: Run,
    console: Console,
) -> "keras.Model":
    """Choose the precision, record it, say how long training will take, and build the model.

    A run that is continued keeps its precision, whatever would be measured today.
    """
    from cvtrain import backend
    from cvtrain.training.precision import choose_precision

    device = run.record["device"]
    with backend.memory_errors():
        choice = choose_precision(
            run.record.get("precision", config.precision),
            build=lambda precision: build(precision=precision, for_training=True),
            batch_size=stage.batch_size,
            device=device,
        )
        model = build(precision=choice.precision, for_training=True)
    size = model.count_params()
    run.update(precision=choice.precision, num_parameters=size)
    console.remark(f"{size:,} parameters, {choice.precision} ({choice.reason}), {device}")
    if speed := choice.images_per_second.get(choice.precision):
        seconds = stage.epochs * steps_per_epoch * stage.batch_size / speed
        console.remark(
            f"{stage.epochs} epochs of {steps_per_epoch} steps: about {duration(seconds)}"
        )
    return model


def record_training(run: Run, trained: "Trained") -> None:
    """Write and draw the history; a training that was stopped on request raises Stopped."""
    write_history(run, trained.history)
    draw_history(run, trained.history, trained.best_epoch)
    num_epochs = len(trained.history)
    run.update(outcome=trained.outcome, epochs=num_epochs, best_epoch=trained.best_epoch)
    if trained.outcome == "stopped":
        raise Stopped(
            f"stopped in epoch {num_epochs + 1}; what was learnt is in {run.path}",
            f"Go on: cvtrain {run.record['command']} {run.path} --resume",
        )


def save(run: Run, build: Callable[..., "keras.Model"], trained: "keras.Model") -> "keras.Model":
    """Commit a model that computes in float32 with the weights of `trained`; returns it."""
    from cvtrain.models.invariant import save_model, weights_digest

    model = build(precision="float32")
    model.set_weights(trained.get_weights())
    save_model(model, run.model_path)
    run.update(weights_sha256=weights_digest(model))
    return model


def write_history(run: Run, rows: "list[Row]") -> None:
    """Commit `history.csv`: one line an epoch."""
    if rows:
        lines = [[f"{v:.7g}" if isinstance(v, float) else v for v in row.values()] for row in rows]
        commit_text(run.path / "history.csv", csv_text([list(rows[0]), *lines]))


def draw_history(run: Run, rows: "list[Row]", best_epoch: int) -> None:
    """Draw the curves of loss and accuracy, once there is an epoch."""
    from cvtrain.visuals import draw

    if rows:
        draw.save(draw.draw_curves(rows, best_epoch), run.figures / "curves.png")


def draw_augmentation(
    run: Run, dataset: Dataset, augmentation: Augmentation, seed: int, num_views: int = 7
) -> None:
    """Draw one image of each class (eight at most) as the first passes of training see it."""
    from cvtrain.visuals import draw

    samples = dataset.index.splits["train"]
    _, firsts = np.unique(samples.labels, return_index=True)
    rows = []
    for i in firsts[:8].tolist():
        pixels = dataset.pixels[samples.paths[i]]
        views = [
            augment(pixels, augmentation, seed=seed, epoch=epoch, sample=i)
            for epoch in range(num_views)
        ]
        rows.append([pixels, *views])
    names = [dataset.index.class_names[samples.labels[i]] for i in firsts[:8]]
    draw.save(draw.draw_augmented_samples(rows, names), run.figures / "augmented_samples.png")


def augmentation_of(section: Augment | None) -> Augmentation | None:
    """The augmentation of a config; None when nothing is changed."""
    augmentation = Augmentation(**section.model_dump()) if section else Augmentation()
    unchanged = Augmentation(fill=augmentation.fill)
    return None if augmentation == unchanged else augmentation


def schedule_settings(stage: Fit, steps_per_epoch: int) -> dict[str, Any]:
    """What `build_schedule` takes, in steps, from what a config says in epochs."""
    schedule = stage.schedule
    period = schedule.every if schedule.name == "step" else 1
    return {
        "learning_rate": stage.optimizer.learning_rate,
        # Plateau lowers a constant rate.
        "name": "constant" if schedule.name == "plateau" else schedule.name,
        "total_steps": stage.epochs * steps_per_epoch,
        "warmup_steps": round(schedule.warmup_epochs * steps_per_epoch),
        "decay_steps": period * steps_per_epoch,
        "factor": schedule.factor,
    }


def plateau_of(schedule: Schedule) -> "Plateau | None":
    """The plateau rule of a config; None for other schedules."""
    from cvtrain.training.schedules import Plateau

    if schedule.name != "plateau":
        return None
    return Plateau(factor=schedule.factor, patience=schedule.patience)


def class_weights_of(stage: Fit, samples: Split) -> np.ndarray | None:
    """Weights (classes,) by which every class counts the same in the loss; None for no weights.

    n / (classes * n_c), the heuristic of King and Zeng (2001) that scikit-learn calls balanced.
    """
    if stage.class_weights == "none":
        return None
    counts = np.bincount(samples.labels)
    return len(samples.labels) / (len(counts) * counts)
