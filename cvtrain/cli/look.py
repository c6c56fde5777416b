"""The commands that look at a run: how good is it, what does it say, why?"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvtrain.cli.named import is_run, open_model_for, open_run, open_run_for, typed_with
from cvtrain.cli.options import columns_option, common_options, force_option
from cvtrain.errors import ConfigError
from cvtrain.explain import METHOD_NAMES

if TYPE_CHECKING:
    from cvtrain.system.console import Console

tta_option = click.option(
    "--tta",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Average over N views of each image (test-time augmentation), as training changed it.",
)


moved_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where the run's images are now; default: where they were.",
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
    help="Other images: a folder of class folders, a CSV manifest or a named set; or the run's own "
    "ones, where they are now.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="test",
    show_default=True,
    help="Which images, where the source has splits.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the CSV files and figures go; default: RUN/evaluate/SPLIT-or-SOURCE.",
)
@columns_option
@tta_option
@common_options
def evaluate(console: "Console", run: Path | None, **options: Any) -> None:
    """Measure RUN (default: the newest): accuracy with its interval, per class, calibration.

    Every prediction goes into a CSV with its file, so that each number can be recomputed.
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
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes a file.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a .csv or .json file with all probabilities instead of a table.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images at once."
)
@tta_option
@force_option
@common_options
def predict(
    console: "Console", paths: tuple[str, ...], output: Path | None, **options: Any
) -> None:
    """Classify files, folders or globs with RUN (default: the newest)."""
    from cvtrain.commands.predict import predict as run_predict

    if output is not None and output.suffix.lower() not in (".csv", ".json"):
        raise ConfigError(
            f"--output {output}: must end in .csv or .json; received '{output.suffix}'",
            "For example: --output predictions.csv",
        )
    if len(paths) == 1 and is_run(Path(paths[0])):
        raise ConfigError(
            f"predict {paths[0]}: names a run and no images",
            f"For example: {typed_with('photos/')(paths[0])}",
        )
    run, images = open_run_for(paths, console)
    run_predict(run, images, output=output, console=console, **options)


@click.command(
    epilog="""\b
Examples:
  cvtrain calibrate                              what would the newest run gain?
  cvtrain calibrate RUN --coverage 0.9           answer 9 of 10 images, the surest
  cvtrain calibrate RUN --risk 0.05              at most 5 % of the answers wrong
  cvtrain calibrate RUN --off                    answer everything again

\b
The model stays as it is; `predict` and `evaluate` read RUN/abstention.json.""",
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--coverage", type=float, metavar="SHARE", help="Which share to answer, 0 to 1.")
@click.option(
    "--risk",
    type=float,
    metavar="SHARE",
    help="Which share of the answers may be wrong, 0 to 1; kept with 95 % confidence.",
)
@click.option("--off", is_flag=True, help="Answer every image again.")
@common_options
def calibrate(
    console: "Console", run: Path | None, coverage: float | None, risk: float | None, off: bool
) -> None:
    """Let RUN (default: the newest) answer "unknown" where it is not sure.

    A temperature makes the confidences honest, a threshold on them says what is sure enough; both
    come from the validation images, what they do to the test images is shown. Without an option
    nothing is decided, and the choices are shown.
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
  cvtrain visualize --evaluate --sanity          can these maps be trusted?
  cvtrain visualize --activations photo.jpg
  cvtrain visualize --filters --style distill --layer conv3
  cvtrain visualize --depth                      what the layers keep
  cvtrain visualize model.keras photos/ --pixel-range 0..1""",
)
@click.argument("paths", nargs=-1, metavar="[RUN|MODEL.keras] [IMAGES]...")
@click.option("--cam", is_flag=True, help="Where it looks (default).")
@click.option("--activations", is_flag=True, help="What the channels make of it.")
@click.option("--filters", is_flag=True, help="What excites the filters of a layer.")
@click.option("--depth", is_flag=True, help="What the layers keep, by depth.")
@click.option("--layer", metavar="NAME", help="Of which layer; default: chosen, and told.")
@click.option(
    "--class",
    "classes",
    metavar="CLASS",
    help="A name, an index, top:K or all; default: the predicted class, beside it the true one.",
)
@click.option(
    "--method",
    type=click.Choice(METHOD_NAMES),
    help="How maps are made; default: gradcam. The last five are by the pixels.",
)
@click.option(
    "--style",
    type=click.Choice(["book", "distill"]),
    help="Of filters: quick (default), or slow and smooth.",
)
@click.option("--evaluate", is_flag=True, help="Measure how faithful the maps are to the model.")
@click.option("--sanity", is_flag=True, help="Check that maps depend on what the model has learnt.")
@click.option(
    "--pixel-range",
    type=click.Choice(["0..255", "0..1", "-1..1"]),
    help="What MODEL.keras takes, if no layer in it scales pixels.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of the sample and of all that is drawn at random.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where pictures go; default: RUN/visualize/METHOD, ./visualize/MODEL/METHOD.",
)
@moved_option
@common_options
def visualize(
    console: "Console",
    paths: tuple[str, ...],
    pixel_range: str | None,
    output: Path | None,
    data: Path | None,
    **options: Any,
) -> None:
    """Look into RUN (default: the newest) or any Keras model: where does it look, what does it see?

    Without IMAGES a sample of the run's test images is taken, right and wrong ones. The folder then
    holds index.html, sheet.png, and for each image overlays and raw maps.
    """
    from cvtrain.commands.visualize import visualize as run_visualize
    from cvtrain.commands.visualize.request import Look

    looks = [name for name in ("cam", "activations", "filters", "depth") if options.pop(name)]
    if len(looks) > 1:
        raise ConfigError(
            f"visualize: one look at a time; received --{' --'.join(looks)}",
            "Start the command once for each.",
        )
    look = Look(*looks, **options)
    source, images = open_model_for(paths, console)
    where = {"pixel_range": pixel_range, "output": output, "data": data}
    run_visualize(source, images, look, **where, console=console)


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
    help="The page to write; default: RUN/report.html.",
)
@moved_option
@force_option
@common_options
def report(console: "Console", run: Path | None, **options: Any) -> None:
    """Show all that RUN (default: the newest) has found on one page that needs no network.

    Accuracy with its interval, curves and what they say, confusion matrix whose cells open their
    images, scores by class, calibration, worst mistakes, labels to look at, data, freeze proof,
    time, and how to reproduce it.
    """
    from cvtrain.commands.report import report as run_report

    run_report(open_run(run, console), **options, console=console)


@click.command(
    epilog="""\b
Examples:
  cvtrain compare runs/scratch runs/augmented
  cvtrain compare runs/*-fit-* --output rates.html
  cvtrain compare RUN_OF_LADDER                  its rungs""",
)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    default=Path("compare.html"),
    show_default=True,
    help="The page to write.",
)
@force_option
@common_options
def compare(console: "Console", runs: tuple[Path, ...], output: Path, force: bool) -> None:
    """Hold several RUNs against the first: is one better, by more than chance, and what differs?

    Accuracy with its interval, McNemar's paired test on the same test images, agreement, curves
    over each other and differences of the configs; as a table, and on a page.
    """
    from cvtrain.commands.compare import compare as run_compare
    from cvtrain.system.files import quoted

    def typed(wrong: Path, run: object) -> str:
        return " ".join(["cvtrain compare", *(quoted(run if p == wrong else p) for p in runs)])

    opened = [open_run(path, console, typed=partial(typed, path)) for path in runs]
    run_compare(opened, output=output, force=force, console=console)
