"""`cvtrain visualize`: maps of what a model looks at, and images of what it has learnt."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cvtrain import backend
from cvtrain.commands.visualize.cam import explain_images
from cvtrain.commands.visualize.layers import draw_activations, draw_depth_story, draw_filters
from cvtrain.commands.visualize.output import MARK
from cvtrain.commands.visualize.request import VisualizeRequest, check_layer, resolve_classes
from cvtrain.errors import ConfigError, DataError
from cvtrain.models.keras_file import layer_names
from cvtrain.runs.run import Run
from cvtrain.steps.inspected_model import (
    ImageReader,
    from_every_class,
    named_images,
    open_model_file,
    open_run,
    right_and_wrong,
    root_of_test_images,
)
from cvtrain.system.console import Console
from cvtrain.system.files import committed_folder
from cvtrain.system.outputs import check_own_folder
from cvtrain.system.signals import stop_on_signals
from cvtrain.system.text import escape, shell_quote

_NUM_EXPLAINED, _NUM_ACTIVATED, _NUM_COMPARED = 24, 2, 120
_LOOKS = {
    "cam": explain_images,
    "activations": draw_activations,
    "filters": draw_filters,
    "depth": draw_depth_story,
}
# The options that apply to some of them only.
_OPTIONS = {
    "classes": ("--class", {"cam"}),
    "method": ("--method", {"cam"}),
    "evaluate": ("--evaluate", {"cam"}),
    "sanity": ("--sanity", {"cam"}),
    "style": ("--style", {"filters"}),
    "layer": ("--layer", {"cam", "activations", "filters"}),
}


def visualize(
    source: Run | Path,
    paths: Sequence[str],
    look: VisualizeRequest,
    *,
    pixel_range: str | None = None,
    output: Path | None = None,
    data: Path | None = None,
    console: Console,
) -> Path:
    """Visualize the model of a run, or any Keras model of images. Neither is changed.

    Args:
        source: a run, or a `.keras` file.
        paths: images, folders, globs; empty for a sample of the run's test images, half of them
            misclassified.
        look: options.
        pixel_range: key of `inspected_model.PIXEL_RANGES`, for a model file.
        output: output folder; None for one in the run, or in ./visualize.
        data: folder of the run's own images; None for the recorded one.

    Returns:
        The folder. Earlier output in it is replaced as a whole.

    Raises:
        ConfigError: the arguments contradict each other, or name no layer, class or method.
        RunError: the model or the run is not usable.
        DataError: an image could not be read; all others are done.
        Stopped: on request; the folder is as it was before.
    """
    _check_options(source, paths, look, pixel_range)
    if data is not None and (paths or not isinstance(source, Run) or look.what == "filters"):
        raise ConfigError(
            f"--data {escape(data)}: the location of a run's own images, which are not used here",
            "Leave it out.",
        )
    _check_names(source, look)
    folder = output or _default_folder(source) / look.folder_name
    check_own_folder(folder, MARK)
    images = _images(source, paths, look, data, console)
    # All that can be checked without the engine, which takes seconds to load, has been checked.

    device = backend.set_up(seed=look.seed)
    if isinstance(source, Run):
        subject = open_run(source, device=device)
    else:
        subject = open_model_file(source, pixel_range=pixel_range, device=device, console=console)
    with stop_on_signals() as stop, committed_folder(folder, mark=MARK) as temporary:
        opened = replace(subject.opened, raise_if_stopped=partial(stop.raise_if_stopped, "looking"))
        subject = replace(subject, opened=opened)
        _LOOKS[look.what](subject, images, look, temporary, console=console)
    console.print(f"look at {folder / 'index.html'}")
    if images.unreadable:
        number = len(images.unreadable)
        raise DataError(f"images that could not be read: {number:,}; the rest is done")
    return folder


def _default_folder(source: Run | Path) -> Path:
    if isinstance(source, Run):
        return source.path / "visualize"
    return Path("visualize") / (source.stem.strip(".") or "model")  # a file may be ...keras


def _check_options(
    source: Run | Path, paths: Sequence[str], look: VisualizeRequest, pixel_range: str | None
) -> None:
    for field, (option, looks) in _OPTIONS.items():
        if getattr(look, field) and look.what not in looks:
            raise ConfigError(
                f"{option} has no effect on --{look.what}",
                f"Leave it out, or use {' or '.join(f'--{each}' for each in sorted(looks))}.",
            )
    if paths and look.what in ("filters", "depth"):
        raise ConfigError(
            f"--{look.what} takes no images; received {paths[0]}",
            "--filters needs no images, and --depth uses the images of the run.",
        )
    if isinstance(source, Run):
        if pixel_range is not None:
            raise ConfigError(
                "--pixel-range: the model of a run takes pixels 0..255", "Leave it out."
            )
    elif look.what == "depth":
        raise ConfigError(
            f"--depth compares test images whose classes are known, and {source} has none",
            "Name a run.",
        )
    elif not paths and look.what != "filters":
        raise ConfigError(
            f"visualize {source}: a model file needs images to show it",
            f"For example: cvtrain visualize {shell_quote(source)} photos/",
        )


def _check_names(source: Run | Path, look: VisualizeRequest) -> None:
    if isinstance(source, Run) and look.classes is not None:
        resolve_classes(look.classes, source.require("class_names").class_names)
    if isinstance(source, Path):
        layer_names(source)  # says what is wrong with a file that Keras could not open
    if look.layer is not None:
        model = source.require_model() if isinstance(source, Run) else source
        check_layer(look.layer, model)


def _images(
    source: Run | Path,
    paths: Sequence[str],
    look: VisualizeRequest,
    data: Path | None,
    console: Console,
) -> ImageReader:
    if paths or not isinstance(source, Run) or look.what == "filters":
        return named_images(paths, console)
    root = root_of_test_images(source, data, console)
    if look.what == "depth":
        return from_every_class(source, _NUM_COMPARED, look.seed, console, root)
    number = _NUM_EXPLAINED if look.what == "cam" else _NUM_ACTIVATED
    return right_and_wrong(source, number, look.seed, console, root)
