"""The commands that use or explain a run: evaluate, predict, calibrate, visualize, ..."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from cvtrain.cli.named import is_run, open_model_for, open_run, open_run_for, typed_with
from cvtrain.cli.options import columns_option, common_options, force_option
from cvtrain.errors import ConfigError
from cvtrain.explain import METHOD_NAMES
from cvtrain.system.console import Console
from cvtrain.system.text import shell_quote

tta_option = click.option(
    "--tta",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Average the predictions over N augmented views of each image (test-time augmentation).",
)


moved_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="New location of the run's images (default: the recorded one).",
)


@click.command(
    epilog="""\b
Examples:
  cvtrain evaluate                               the newest run on its own test images
  cvtrain evaluate RUN --split validation
  cvtrain evaluate RUN --data photos/from-march  other images with the same class names
  cvtrain evaluate RUN --tta 8                   averaged over eight views of each image""",
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--data",
    "source",
    metavar="SOURCE",
    help="Images to measure instead: a folder of class folders, a CSV manifest or a named set; or "
    "the new location of the run's own images.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="test",
    show_default=True,
    help="Split to measure, where the images are split.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the CSV files and figures (default: RUN/evaluate/SPLIT-or-SOURCE).",
)
@columns_option
@tta_option
@common_options
def evaluate(console: Console, run: Path | None, **options: Any) -> None:
    """Measure accuracy, class scores and calibration of a run.

    RUN defaults to the newest run. The predictions of all files are written to a CSV file, so that
    each number can be recomputed.
    """
    from cvtrain.commands.evaluate import evaluate as run_evaluate

    run_evaluate(open_run(run, console, needs_model=True), console=console, **options)


@click.command(
    epilog="""\b
Examples:
  cvtrain predict photo.jpg                      the newest run
  cvtrain predict RUN photos/ --top 1
  cvtrain predict RUN 'photos/*.jpg' --output predictions.csv

\b
A file that cannot be read is reported and does not stop the others; the exit code is then 3.""",
)
@click.argument("paths", nargs=-1, required=True, metavar="[RUN] PATHS...")
@click.option(
    "--top",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Number of classes to list for each file.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write all probabilities to a .csv or .json file instead of printing a table.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Number of images in a batch.",
)
@tta_option
@force_option
@common_options
def predict(console: Console, paths: tuple[str, ...], output: Path | None, **options: Any) -> None:
    """Classify image files, folders or glob patterns.

    RUN defaults to the newest run.
    """
    from cvtrain.commands.predict import predict as run_predict

    if output is not None and output.suffix.lower() not in (".csv", ".json"):
        raise ConfigError(
            f"--output {output}: must end in .csv or .json; received '{output.suffix}'",
            "For example: --output predictions.csv",
        )
    if len(paths) == 1 and is_run(Path(paths[0])):
        raise ConfigError(
            f"predict {paths[0]}: names a run, but no images",
            f"For example: {typed_with('photos/')(paths[0])}",
        )
    run, images = open_run_for(paths, console)
    run_predict(run, images, output=output, console=console, **options)


@click.command(
    epilog="""\b
Examples:
  cvtrain calibrate                              show the possible thresholds
  cvtrain calibrate RUN --coverage 0.9           answer the most confident 90 % of the images
  cvtrain calibrate RUN --risk 0.05              at most 5 % of the answers are wrong
  cvtrain calibrate RUN --off                    answer every image

\b
The model is not changed; `predict` and `evaluate` read RUN/abstention.json.""",
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--coverage", type=float, metavar="SHARE", help="Share of the images to answer, 0 to 1."
)
@click.option(
    "--risk",
    type=float,
    metavar="SHARE",
    help="Largest share of wrong answers, 0 to 1, kept with 95 % confidence.",
)
@click.option("--off", is_flag=True, help="Remove the threshold: answer every image.")
@common_options
def calibrate(
    console: Console, run: Path | None, coverage: float | None, risk: float | None, off: bool
) -> None:
    """Set a confidence below which a run answers "unknown".

    RUN defaults to the newest run. Temperature scaling and the threshold are fitted on the
    validation images, and their effect is measured on the test images. Without an option, the
    command shows the possible thresholds and changes nothing.
    """
    from cvtrain.commands.calibrate import calibrate as run_calibrate

    given = {"--coverage": coverage is not None, "--risk": risk is not None, "--off": off}
    if sum(given.values()) > 1:
        received = " ".join(option for option, is_given in given.items() if is_given)
        raise ConfigError(f"calibrate: one of --coverage, --risk and --off; received {received}")
    opened = open_run(run, console, needs_model=True)
    run_calibrate(opened, coverage=coverage, risk=risk, off=off, console=console)


@click.command(
    epilog="""\b
Examples:
  cvtrain visualize                              class-activation maps of the newest run
  cvtrain visualize RUN photos/ --method layercam --class top:3
  cvtrain visualize --evaluate --sanity          measure how reliable the maps are
  cvtrain visualize --activations photo.jpg
  cvtrain visualize --filters --style distill --layer conv3
  cvtrain visualize --depth                      what each layer keeps of the images
  cvtrain visualize model.keras photos/ --pixel-range 0..1""",
)
@click.argument("paths", nargs=-1, metavar="[RUN|MODEL.keras] [IMAGES]...")
@click.option("--cam", is_flag=True, help="Draw class-activation maps (default).")
@click.option("--activations", is_flag=True, help="Draw the activations of each channel.")
@click.option("--filters", is_flag=True, help="Draw images that activate each filter most.")
@click.option("--depth", is_flag=True, help="Measure by depth what the layers keep of the images.")
@click.option(
    "--layer", metavar="NAME", help="Layer to inspect (default: chosen automatically and printed)."
)
@click.option(
    "--class",
    "classes",
    metavar="CLASS",
    help="Class to explain: a name, an index, top:K or all (default: the predicted class, and the "
    "true class where it is known).",
)
@click.option(
    "--method",
    type=click.Choice(METHOD_NAMES),
    help="Explanation method (default: gradcam). The last five work on the input pixels.",
)
@click.option(
    "--style",
    type=click.Choice(["book", "distill"]),
    help="Style of filter images: book (fast, default) or distill (slower and smoother).",
)
@click.option("--evaluate", is_flag=True, help="Measure how faithful the maps are to the model.")
@click.option(
    "--sanity", is_flag=True, help="Test whether the maps change when the weights are randomized."
)
@click.option(
    "--pixel-range",
    type=click.Choice(["0..255", "0..1", "-1..1"]),
    help="Pixel range that MODEL.keras expects, where it does not scale pixels itself.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Random seed of the image sample and of random methods.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the images (default: RUN/visualize/METHOD, ./visualize/MODEL/METHOD).",
)
@moved_option
@common_options
def visualize(
    console: Console,
    paths: tuple[str, ...],
    pixel_range: str | None,
    output: Path | None,
    data: Path | None,
    **options: Any,
) -> None:
    """Draw class-activation maps, activations and filters of a model.

    RUN defaults to the newest run; MODEL.keras is any Keras model of images. Without IMAGES, a
    sample of correctly and wrongly classified test images is used. The output folder holds
    index.html, sheet.png, and the overlays and raw maps of each image.
    """
    from cvtrain.commands.visualize import visualize as run_visualize
    from cvtrain.commands.visualize.request import VisualizeRequest

    looks = [name for name in ("cam", "activations", "filters", "depth") if options.pop(name)]
    if len(looks) > 1:
        raise ConfigError(
            "visualize: takes one of --cam, --activations, --filters and --depth; received "
            f"--{' --'.join(looks)}",
            "Run the command once for each.",
        )
    look = VisualizeRequest(looks[0] if looks else VisualizeRequest.what, **options)
    source, images = open_model_for(paths, console)
    run_visualize(
        source,
        images,
        look,
        pixel_range=pixel_range,
        output=output,
        data=data,
        console=console,
    )


@click.command(
    epilog="""\b
Examples:
  cvtrain report                                 the newest run, as RUN/report.html
  cvtrain report RUN --output first-model.html""",
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="HTML file to write (default: RUN/report.html).",
)
@moved_option
@force_option
@common_options
def report(console: Console, run: Path | None, **options: Any) -> None:
    """Write all results of a run to one HTML page.

    RUN defaults to the newest run. The page needs no network. It shows accuracy with its interval,
    learning curves with a diagnosis, the confusion matrix with the images of each cell, scores of
    each class, calibration, worst mistakes, likely mislabels, data, freeze proof, time, and how to
    reproduce the run.
    """
    from cvtrain.commands.report import report as run_report

    run_report(open_run(run, console), **options, console=console)


@click.command(
    epilog="""\b
Examples:
  cvtrain compare runs/scratch runs/augmented
  cvtrain compare runs/*-fit-* --output rates.html
  cvtrain compare RUN_OF_LADDER                  the stages of a ladder""",
)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    default=Path("compare.html"),
    show_default=True,
    help="HTML file to write.",
)
@force_option
@common_options
def compare(console: Console, runs: tuple[Path, ...], output: Path, force: bool) -> None:
    """Compare runs by paired tests on the same test images.

    A table and an HTML page show accuracy with its interval, McNemar's paired test, agreement,
    learning curves in one plot, and the differences between the configs.
    """
    from cvtrain.commands.compare import compare as run_compare

    def typed(wrong: Path, run: object) -> str:
        return " ".join(["cvtrain compare", *(shell_quote(run if p == wrong else p) for p in runs)])

    opened = [open_run(path, console, typed=partial(typed, path)) for path in runs]
    run_compare(opened, output=output, force=force, console=console)


GROUPS = {
    "Use": (evaluate, predict, calibrate),
    "Explain and compare": (visualize, report, compare),
}
"""As in `cli.start`."""
