"""`cvtrain fit`: a convnet from scratch, augmented where the config says so."""

from functools import partial
from pathlib import Path

from cvtrain.config import Config
from cvtrain.console import Console
from cvtrain.models.convnet import build_convnet, output_sizes
from cvtrain.pipelines.dataset import open_dataset
from cvtrain.pipelines.finish import finish
from cvtrain.pipelines.train import start_run, train_on_images
from cvtrain.run import Run
from cvtrain.signals import stop_on_signals
from cvtrain.stopwatch import Stopwatch


def fit(config: Config, path: Path, *, name: str, resume: bool, console: Console) -> Run:
    """Train the convnet of a config on its images, evaluate it and draw how it went.

    Args:
        config: the checked config.
        path: the run folder to write, or to continue.
        name: of the config, for the record.
        resume: continue the run at `path` from its last checkpoint.

    Returns:
        The finished run.

    Raises:
        ConfigError, DataError, RunError: before anything is trained.
        TrainingError, ResourceError: training cannot go on; the best model so far is saved.
        Stopped: on request; the best model so far is saved, and `resume` continues.
    """
    settings = config.fit.model.model_dump(exclude={"name"})
    sizing = ("filters", "kernel_size", "padding", "strides", "pooling")
    output_sizes(config.data.image_size, **{key: settings[key] for key in sizing})
    run = Run.open(path) if resume else None
    if run and run.record["status"] == "finished":
        console.result(f"{path} is finished; there is nothing to resume")
        return run
    watch = Stopwatch(run.record.get("seconds") if run else None)
    with stop_on_signals() as stop:
        with watch.phase("data"):
            dataset = open_dataset(config, stop, console)
        run = run or Run.create(path, "fit")
        with run.locked(), run.recording_failure(watch):
            start_run(run, config, dataset, name=name, watch=watch, console=console)
            build = partial(
                build_convnet,
                image_size=config.data.image_size,
                num_classes=len(dataset.index.class_names),
                seed=config.seed,
                **settings,
            )
            model = train_on_images(
                build, config.fit, config, dataset, run, watch=watch, stop=stop, console=console
            )
            finish(run, model, dataset, watch=watch, stop=stop, console=console)
    return run
