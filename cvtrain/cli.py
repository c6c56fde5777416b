"""All commands: parse, load the config, call one function of `pipelines`.

Imports click, the standard library, errors and names; everything else inside the callbacks, so that
`--help` costs what click costs.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvtrain import __version__
from cvtrain.errors import ConfigError
from cvtrain.visuals import METHOD_NAMES

if TYPE_CHECKING:
    from cvtrain.config import Config
    from cvtrain.console import Console
    from cvtrain.run import Run

RUNS_DIR = Path("runs")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Start here:
  cvtrain data check photos/           is every image usable?
  cvtrain fit config.yaml              train, evaluate, draw
  cvtrain extract-features config.yaml train a head on a pretrained base
  cvtrain finetune config.yaml         train the top of that base, too
  cvtrain predict photos/new/*.jpg     what does the newest run say?
  cvtrain visualize --cam              where does it look?
\b
Exit codes: 0 done, 1 our fault, 2 command line or config, 3 data, 4 run folder or model,
5 disk, memory or device, 6 loss not finite, 75 stopped, --resume continues, 130 interrupted.""",
)
@click.version_option(__version__, message="cvtrain %(version)s")
def cli() -> None:
    """From a folder of images to a trained, explained and trustworthy classifier."""


@cli.group()
def data() -> None:
    """Look at images before training."""


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """--quiet and --debug, and a `console` as first argument."""

    @click.option("-q", "--quiet", is_flag=True, help="Print results and warnings only.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(command)
    def wrapper(quiet: bool, debug: bool, **arguments: Any) -> None:
        from cvtrain.console import Console

        click.get_current_context().find_root().meta["cvtrain.debug"] = debug
        command(Console(quiet), **arguments)

    return wrapper


set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override the config; may be repeated. Paths count from the current folder.",
)
run_dir_option = click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The run folder to write; default: runs/DATE-COMMAND-CONFIG.",
)


def project_options(command: Callable[..., None]) -> Callable[..., None]:
    """CONFIG, --set, --run-dir and --resume, of every command that writes a run."""
    for option in (
        common_options,
        click.option("--resume", is_flag=True, help="Go on with an unfinished run."),
        run_dir_option,
        set_option,
        click.argument("config", default="config.yaml", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


@cli.command(
    epilog="""\b
Examples:
  cvtrain fit                                    ./config.yaml
  cvtrain fit configs/digits.yaml                offline, in a minute
  cvtrain fit configs/scratch.yaml --set data.source=photos/ --set fit.epochs=5
  cvtrain fit config.yaml --resume               go on with the newest unfinished run of it
  cvtrain fit runs/20260101-120000-fit-config --resume
\b
The run folder then holds model.keras, run.json, history.csv, predictions-*.csv, figures/.""",
)
@project_options
def fit(
    console: "Console",
    config: Path,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: bool,
) -> None:
    """Train a convnet from scratch on the images of CONFIG, evaluate it and draw how it went.

    With an `augment:` section each epoch sees the images changed at random.
    """
    settings, path, name = _project("fit", config, overrides, run_dir, resume)
    from cvtrain.pipelines.fit import fit as run_fit

    run_fit(settings, path, name=name, resume=resume, console=console)


@cli.command(
    epilog="""\b
Examples:
  cvtrain probe                                  where to cut the base of ./config.yaml?
  cvtrain probe --set 'probe.image_sizes=[96, 160, 224]'
  cvtrain probe --set 'probe.backbones=[{name: vgg16}, {name: mobilenet, alpha: 0.25}]'
  cvtrain probe --set data.train_per_class=100   sooner, less exact
\b
The run folder then holds probe.csv and figures/probe.png, and no model.""",
)
@project_options
def probe(
    console: "Console",
    config: Path,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: bool,
) -> None:
    """Measure how well each block of a base tells the classes apart, and recommend where to cut.

    A linear classifier on the pooled features of each block, cross-validated on the training
    images: early blocks are generic and cheap, late ones specific to what the base was trained on.
    """
    settings, path, name = _project("probe", config, overrides, run_dir, resume)
    from cvtrain.pipelines.probe import probe as run_probe

    run_probe(settings, path, name=name, resume=resume, console=console)


@cli.command(
    "extract-features",
    epilog="""\b
Examples:
  cvtrain extract-features                       ./config.yaml
  cvtrain extract-features config.yaml --set extract_features.backbone.name=mobilenet
  cvtrain extract-features config.yaml --set extract_features.views=8
  cvtrain extract-features config.yaml --set extract_features.head.name=logistic
  cvtrain extract-features config.yaml --features-only
\b
Features are kept in $CVTRAIN_CACHE, by default ~/.cache/cvtrain: a second head costs seconds.""",
)
@click.option(
    "--features-only", is_flag=True, help="Write the features as .npy and .parquet; train nothing."
)
@project_options
def extract_features(
    console: "Console",
    config: Path,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: bool,
    features_only: bool,
) -> None:
    """Train a head on the features of a pretrained base, which is run once for each image.

    The base stays frozen, and the run proves it. With `views:` above 1 and an `augment:` section
    so many augmented views of each training image are computed and kept.
    """
    settings, path, name = _project("extract-features", config, overrides, run_dir, resume)
    from cvtrain.pipelines.extract_features import extract_features as run_extract_features

    run_extract_features(
        settings, path, name=name, resume=resume, features_only=features_only, console=console
    )


@cli.command(
    epilog="""\b
Examples:
  cvtrain finetune                               the newest extract-features run
  cvtrain finetune config.yaml --from runs/20260101-120000-extract-features-config
  cvtrain finetune --set finetune.unfreeze_from=block5_conv1
  cvtrain finetune --set finetune.unfreeze_blocks=3 --set finetune.views=unlimited""",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="The run to start from; default: the newest extract-features run.",
)
@project_options
def finetune(
    console: "Console",
    config: Path,
    source: Path | None,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: bool,
) -> None:
    """Train the top of a run's network on, at a low learning rate; what is below stays frozen.

    The frozen part comes from the cache, so that only the top is computed in every step.
    """
    settings, path, name = _project("finetune", config, overrides, run_dir, resume)
    from cvtrain.run import Run, newest_run

    if resume and source is None:
        source = Path(Run.open(path).field("source", dict)["run"])
    if source is None:
        start = newest_run(RUNS_DIR, command="extract-features", has_model=True)
        console.remark(f"from: {start.path} (the newest extract-features run)")
    else:
        start = Run.open(source)
    from cvtrain.pipelines.finetune import finetune as run_finetune

    run_finetune(settings, path, source=start, name=name, resume=resume, console=console)


@cli.command(
    epilog="""\b
Examples:
  cvtrain ladder                                 ./config.yaml
  cvtrain ladder configs/digits-transfer.yaml    offline, in minutes
  cvtrain ladder config.yaml --resume            go on with the rung that was stopped""",
)
@project_options
def ladder(
    console: "Console",
    config: Path,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: bool,
) -> None:
    """Climb from a convnet from scratch to a fine-tuned base, and tell what each rung gains.

    Scratch, augmented, features, features with views, fine-tuned: all on one split, each compared
    with the one below by a paired test. Says first how long it will take.
    """
    settings, path, name = _project("ladder", config, overrides, run_dir, resume)
    from cvtrain.pipelines.ladder import ladder as run_ladder

    run_ladder(settings, path, name=name, resume=resume, console=console)


@cli.command(
    epilog="""\b
Examples:
  cvtrain evaluate                               the newest run on its own test images
  cvtrain evaluate RUN --split validation
  cvtrain evaluate RUN --data photos/from-march  other images with the same class names""",
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--data",
    "source",
    metavar="SOURCE",
    help="Other images: a folder of class folders, a CSV manifest or a named set.",
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
@common_options
def evaluate(
    console: "Console", run: Path | None, source: str | None, split: str, output: Path | None
) -> None:
    """Measure RUN (default: the newest): accuracy with its interval, per class, calibration.

    Every prediction goes into a CSV with its file, so that each number can be recomputed.
    """
    from cvtrain.pipelines.evaluate import evaluate as run_evaluate

    run_evaluate(
        _open_run(run, console), source=source, split=split, output=output, console=console
    )


@cli.command(
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
@common_options
def predict(
    console: "Console", paths: tuple[str, ...], top: int, output: Path | None, batch_size: int
) -> None:
    """Classify files, folders or globs with RUN (default: the newest)."""
    from cvtrain.pipelines.predict import predict as run_predict

    if output is not None and output.suffix.lower() not in (".csv", ".json"):
        raise ConfigError(
            f"--output {output}: must end in .csv or .json; received '{output.suffix}'",
            "For example: --output predictions.csv",
        )
    has_run = (Path(paths[0]) / "run.json").is_file()
    if has_run and len(paths) == 1:
        raise ConfigError(
            f"predict {paths[0]}: names a run and no images",
            f"For example: cvtrain predict {paths[0]} photos/",
        )
    run = _open_run(Path(paths[0]) if has_run else None, console)
    images = paths[1:] if has_run else paths
    run_predict(run, images, top=top, output=output, batch_size=batch_size, console=console)


@cli.command(
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
    type=click.IntRange(0),
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
@common_options
def visualize(
    console: "Console",
    paths: tuple[str, ...],
    pixel_range: str | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Look into RUN (default: the newest) or any Keras model: where does it look, what does it see?

    Without IMAGES a sample of the run's test images is taken, right and wrong ones. The folder then
    holds index.html, sheet.png, and for each image overlays and raw maps.
    """
    from cvtrain.pipelines.visualize import Look
    from cvtrain.pipelines.visualize import visualize as run_visualize

    looks = [name for name in ("cam", "activations", "filters", "depth") if options.pop(name)]
    if len(looks) > 1:
        raise ConfigError(
            f"visualize: one look at a time; received --{' --'.join(looks)}",
            "Start the command once for each.",
        )
    look = Look(*looks, **options)
    first = Path(paths[0]) if paths else None
    if first is not None and first.suffix == ".keras":
        source, images = first, paths[1:]
    elif first is not None and (first / "run.json").is_file():
        source, images = _open_run(first, console), paths[1:]
    else:
        source, images = _open_run(None, console), paths
    run_visualize(source, images, look, pixel_range=pixel_range, output=output, console=console)


@data.command(
    epilog="""\b
Examples:
  cvtrain data check photos/
  cvtrain data check config.yaml
  cvtrain data check config.yaml --set data.source=photos/
\b
The exit code is 3 when a file is bad, 0 when files are at most doubtful.""",
)
@click.argument("path", default="config.yaml", metavar="[PATH|CONFIG]")
@set_option
@common_options
def check(console: "Console", path: str, overrides: tuple[str, ...]) -> None:
    """Name every bad or doubtful image file of a folder, manifest, named set or config."""
    from cvtrain.config import config_for_source, load_config
    from cvtrain.pipelines.data_check import data_check

    is_config = path.lower().endswith((".yaml", ".yml"))
    config: Config = (
        load_config(Path(path), overrides) if is_config else config_for_source(path, overrides)
    )
    data_check(config, console=console)


def _project(
    command: str,
    config: Path,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: bool,
) -> tuple["Config", Path, str]:
    """The config, the run folder to write or continue, and the name of the config.

    With --resume, CONFIG may be the run folder itself; else the newest unfinished run is taken.
    """
    from cvtrain.config import load_config
    from cvtrain.run import Run, new_run_path, newest_run, refuse_existing

    if (config / "run.json").is_file():
        if not resume:
            raise ConfigError(
                f"{config} is a run folder", f"To continue it: cvtrain {command} {config} --resume"
            )
        run_dir, config = config, config / "config.yaml"
        name = Run.open(run_dir).field("name", str)
    else:
        name = config.stem
    settings = load_config(config, overrides)
    if resume:
        path = run_dir or newest_run(RUNS_DIR, command=command, name=name).path
    else:
        path = run_dir or new_run_path(RUNS_DIR, command, name)
        refuse_existing(path)
    return settings, path, name


def _open_run(path: Path | None, console: "Console") -> "Run":
    """The run at `path`, or the newest one that has a model."""
    from cvtrain.run import Run, newest_run

    if path is not None:
        return Run.open(path)
    run = newest_run(RUNS_DIR, has_model=True)
    console.remark(f"run: {run.path} (the newest)")
    return run
