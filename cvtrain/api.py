"""The commands as Python functions, and a run as an object. Imported as `cvtrain`.

Each function takes a config as a path, as a dict with the keys of the YAML file, or as a `Config`.
Paths in a dict are relative to the current folder. The exceptions are those of `cvtrain.errors`.

If logging is configured, for example by `logging.basicConfig(level="INFO")`, progress, results and
warnings are logged by the logger `cvtrain`. Otherwise they are printed as by the command line. With
`quiet=True`, only warnings are logged or printed.
"""

import base64
import csv
import html
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cvtrain.commands.predict import Prediction, classifier_of, classify_files
from cvtrain.config import Config, config_from_values, load_config
from cvtrain.data.scan import find_images
from cvtrain.errors import ConfigError
from cvtrain.runs import run as runs
from cvtrain.runs.run import RunRequest, new_run_path, newest_run
from cvtrain.steps.inference import decoder_of_run, load_saved
from cvtrain.system.console import Console, LoggingConsole
from cvtrain.system.signals import stop_on_signals

if TYPE_CHECKING:
    import keras

PathLike = str | Path
AnyConfig = str | Path | Mapping[str, Any] | Config
Images = PathLike | Sequence[PathLike] | np.ndarray | Sequence[np.ndarray]

RUNS_DIR = Path("runs")
_LOGGER = logging.getLogger("cvtrain")


class Run:
    """A run folder that a command has written.

    Attributes:
        path: The folder.
        record: The content of run.json (docs/run-folder.md).
    """

    def __init__(self, path: PathLike):
        """Open the run folder at `path`.

        Raises:
            RunError: There is none, or its run.json cannot be used.
        """
        self._run = runs.Run.open(Path(path))

    @property
    def path(self) -> Path:
        """The folder."""
        return self._run.path

    @property
    def record(self) -> Mapping[str, Any]:
        """The content of run.json."""
        return self._run.content

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self._run.require("class_names").class_names

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that the model takes, in pixels."""
        return self._run.require("image_size").image_size

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Metrics by split: {"test": {"accuracy": 0.93, "accuracy_interval": [...], ...}, ...}."""
        self._run.require("metrics")
        metrics: dict[str, Any] = self._run.content["metrics"]
        return metrics

    @property
    def history(self) -> list[dict[str, float]]:
        """One row for each epoch, with `epoch`, `loss`, `accuracy`, `val_loss` and other metrics.

        Empty for a run that trained no epoch.
        """
        path = self.path / "history.csv"
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            ]

    def load_model(self) -> "keras.Model":
        """The saved model: pixels 0..255 (n, height, width, 3) -> probabilities (n, classes).

        Raises:
            RunError: the run has no model, or its file is damaged.
        """
        return load_saved(self._run)

    def predict(self, images: Images, *, batch_size: int = 32, tta: int = 1) -> list[Prediction]:
        """Classify images, as `cvtrain predict` does.

        Args:
            images: a path or several, each of a file, folder or glob pattern; or RGB pixels, one
                array (n, h, w, 3), or a sequence of arrays (h, w, 3) of any sizes, uint8.
            batch_size: number of images in a batch.
            tta: number of augmented views that predictions are averaged over.

        Returns:
            A `Prediction` for each file or array: `path` (empty for an array), `answer`,
            `probabilities` (classes,), and `problem` where a file cannot be read.

        Raises:
            ConfigError: arrays are not uint8 RGB pixels.
            RunError: the model cannot be used.
        """
        decoder = decoder_of_run(self._run)
        with stop_on_signals() as stop:
            answer = classifier_of(self._run, stop, tta=tta)
            if isinstance(images, str | Path) or _are_paths(images):
                found = find_images(_as_paths(images), {})
                batches = classify_files(answer, decoder, found, batch_size)
                return [prediction for batch in batches for prediction in batch]
            pixels = [decoder(_as_png(image)).pixels for image in images]
            predictions = []
            for start in range(0, len(pixels), batch_size):
                stop.raise_if_stopped("predicting")
                batch = np.stack(pixels[start : start + batch_size])
                predictions += [Prediction("", *row) for row in zip(*answer(batch), strict=True)]
        return predictions

    def explain(
        self,
        images: PathLike | Sequence[PathLike] = (),
        *,
        method: str = "gradcam",
        classes: str | None = None,
        output: PathLike | None = None,
        quiet: bool = False,
    ) -> Path:
        """Draw class-activation maps; the same as `cvtrain.visualize`.

        Returns:
            The folder with index.html, overlays, and raw maps as .npy files.
        """
        return visualize(self, images, method=method, classes=classes, output=output, quiet=quiet)

    def __repr__(self) -> str:
        """The command, the folder and the test accuracy."""
        metrics = self._run.record.metrics
        accuracy = f", test accuracy {metrics.test.accuracy:.4f}" if metrics else ""
        return f"<Run of {self._run.record.command} in {self.path}{accuracy}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the most important fields and the learning curves."""
        record = self._run.record
        rows = {"command": record.command, "status": record.status, "folder": self.path}
        if record.metrics:
            test = record.metrics.test
            low, high = test.accuracy_interval
            rows["test accuracy"] = (
                f"{test.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}, "
                f"{test.num_images:,} images)"
            )
        if names := record.class_names:
            rows["classes"] = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        cells = "".join(
            f"<tr><th>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>"
            for key, value in rows.items()
        )
        curves = self._run.figures / "curves.png"
        figure = ""
        if curves.is_file():
            encoded = base64.b64encode(curves.read_bytes()).decode()
            figure = f'<img alt="learning curves" src="data:image/png;base64,{encoded}">'
        return f"<table>{cells}</table>{figure}"


def load_run(path: PathLike) -> Run:
    """Open a run folder.

    Raises:
        RunError: there is none, or its run.json cannot be used.
    """
    return Run(path)


def fit(
    config: AnyConfig, run_dir: PathLike | None = None, *, resume: bool = False, quiet: bool = False
) -> Run:
    """Train a convnet from scratch and evaluate it, as `cvtrain fit` does.

    Args:
        config: path, dict or `Config`.
        run_dir: run folder to write (default: runs/DATE-fit-NAME).
        resume: continue the run in `run_dir`, or the newest unfinished one.
        quiet: show only warnings.

    Raises:
        ConfigError, DataError, RunError: before anything is trained.
        TrainingError, ResourceError: training cannot continue; the best model so far is saved.
        Stopped: on Ctrl-C; `resume=True` continues.
    """
    from cvtrain.commands.fit import fit as command

    return _train("fit", command, config, run_dir, resume=resume, quiet=quiet)


def extract_features(
    config: AnyConfig, run_dir: PathLike | None = None, *, resume: bool = False, quiet: bool = False
) -> Run:
    """Train a head on features of a frozen backbone, as `cvtrain extract-features` does.

    Arguments and errors are those of `fit`.
    """
    from cvtrain.commands.extract_features import extract_features as command

    return _train("extract-features", command, config, run_dir, resume=resume, quiet=quiet)


def finetune(
    config: AnyConfig,
    run_dir: PathLike | None = None,
    *,
    source: "PathLike | Run | None" = None,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Continue training the top layers of a run, as `cvtrain finetune` does.

    Args:
        source: the run to start from (default: the newest extract-features run in ./runs).

    Other arguments and errors are those of `fit`.
    """
    from cvtrain.commands.finetune import finetune as command

    def start(config: Config, request: RunRequest, console: Console) -> runs.Run:
        if source is not None:
            first = runs.Run.open(_path_of(source))
        elif resume:
            first = runs.Run.open(Path(runs.Run.open(request.path).require_source().run))
        else:
            first = newest_run(RUNS_DIR, command="extract-features", has_model=True)
        return command(config, request, console, source=first)

    return _train("finetune", start, config, run_dir, resume=resume, quiet=quiet)


def evaluate(
    run: "PathLike | Run",
    source: PathLike | None = None,
    *,
    split: str = "test",
    output: PathLike | None = None,
    tta: int = 1,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a run on its own images or on others, as `cvtrain evaluate` does.

    Args:
        run: the run, or its folder.
        source: other images, or the new location of the run's own (default: its own).
        split: "train", "validation" or "test", where the images are split.
        output: folder for the CSV files and figures (default: in the run).
        tta: number of augmented views that predictions are averaged over.
        quiet: show only warnings.

    Returns:
        The metrics, which are also in metrics.json of the output folder.

    Raises:
        RunError, DataError: the run or the images cannot be used.
    """
    from cvtrain.commands.evaluate import evaluate as command

    with _console(quiet) as console:
        return command(
            runs.Run.open(_path_of(run)),
            source=None if source is None else str(source),
            split=split,
            output=None if output is None else Path(output),
            console=console,
            tta=tta,
        )


def predict(run: "PathLike | Run", images: Images, **options: Any) -> list[Prediction]:
    """Classify images; the same as `Run.predict`."""
    opened = run if isinstance(run, Run) else Run(run)
    return opened.predict(images, **options)


def visualize(
    run: "PathLike | Run",
    images: PathLike | Sequence[PathLike] = (),
    *,
    method: str = "gradcam",
    classes: str | None = None,
    output: PathLike | None = None,
    quiet: bool = False,
) -> Path:
    """Draw class-activation maps of a run, as `cvtrain visualize --cam` does.

    Args:
        run: the run, or its folder.
        images: files, folders or glob patterns (default: a sample of its test images).
        method: one of `cvtrain.explain.METHOD_NAMES`.
        classes: a name, an index, top:K or all (default: the predicted class).
        output: folder to write (default: in the run).
        quiet: show only warnings.

    Returns:
        The folder with index.html, overlays, and raw maps as .npy files.
    """
    from cvtrain.commands.visualize import visualize as command
    from cvtrain.commands.visualize.request import VisualizeRequest

    with _console(quiet) as console:
        return command(
            runs.Run.open(_path_of(run)),
            _as_paths(images),
            VisualizeRequest("cam", method=method, classes=classes),
            output=None if output is None else Path(output),
            console=console,
        )


def _train(
    name: str,
    command: Callable[[Config, RunRequest, Console], runs.Run],
    config: AnyConfig,
    run_dir: PathLike | None,
    *,
    resume: bool,
    quiet: bool,
) -> Run:
    settings, called = _config_of(config)
    if run_dir is not None:
        path = Path(run_dir)
    elif resume:
        path = newest_run(RUNS_DIR, command=name, name=called, unfinished=True).path
    else:
        path = new_run_path(RUNS_DIR, name, called)
    kept = Path(config) if isinstance(config, str | Path) else None
    with _console(quiet) as console:
        return Run(command(settings, RunRequest(path, called, resume, config=kept), console).path)


def _config_of(config: AnyConfig) -> tuple[Config, str]:
    """The checked config, and its name."""
    if isinstance(config, Config):
        return config, "config"
    if isinstance(config, str | Path):
        return load_config(Path(config)), Path(config).stem
    return config_from_values(config), "config"


@contextmanager
def _console(quiet: bool) -> Iterator[Console]:
    level = logging.WARNING if quiet else logging.INFO
    if _LOGGER.hasHandlers() and _LOGGER.isEnabledFor(level):
        yield LoggingConsole(_LOGGER, quiet)
        return
    console = Console(quiet)
    if not quiet:
        yield console
        return
    with console.part_of_a_whole():  # results are returned
        yield console


def _path_of(run: "PathLike | Run") -> Path:
    return run.path if isinstance(run, Run) else Path(run)


def _are_paths(images: Sequence[PathLike | np.ndarray] | np.ndarray) -> bool:
    return not isinstance(images, np.ndarray) and all(isinstance(i, str | Path) for i in images)


def _as_paths(images: Any) -> list[str]:
    return [str(images)] if isinstance(images, str | Path) else [str(image) for image in images]


def _as_png(pixels: Any) -> bytes:
    """An array as a PNG file, so that the decoder of the run can read it."""
    from PIL import Image

    array = np.asarray(pixels)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise ConfigError(
            f"images: must be RGB pixels (h, w, 3) of uint8; received {array.dtype} {array.shape}",
            "Scale them to 0..255 and convert them: image.astype(numpy.uint8)",
        )
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()
