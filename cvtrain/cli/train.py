"""The commands that train, each into a run folder of its own."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvtrain.cli.named import RUNS_DIR, open_run
from cvtrain.cli.options import Project, common_options, project_options
from cvtrain.errors import ConfigError

if TYPE_CHECKING:
    from cvtrain.system.console import Console


@click.command(
    epilog="""\b
Examples:
  cvtrain fit                                    ./config.yaml
  cvtrain fit configs/digits.yaml                offline, in a minute
  cvtrain fit configs/scratch.yaml --set data.source=photos/ --set fit.epochs=5
  cvtrain fit config.yaml --find-lr              which learning rate? a minute, no model
  cvtrain fit config.yaml --resume               go on with the newest unfinished run of it
  cvtrain fit runs/20260101-120000-fit-config --resume
  cvtrain fit runs/20260101-120000-fit-config --resume --set fit.epochs=50 --accept-changes

\b
The run folder then holds model.keras, run.json, history.csv, predictions-*.csv, figures/.""",
)
@click.option(
    "--find-lr",
    is_flag=True,
    help="Train a hundred steps at rising learning rates, and suggest one; keep no model.",
)
@project_options
def fit(console: "Console", project: Project, find_lr: bool) -> None:
    """Train a convnet from scratch on the images of CONFIG, evaluate it and draw how it went.

    With an `augment:` section each epoch sees the images changed at random.
    """
    if find_lr:
        if project.resume:
            raise ConfigError("--find-lr leaves nothing to resume", "Leave --resume out.")
        config, request = project.open("find-lr")
        from cvtrain.commands.find_lr import find_lr as run_find_lr

        run_find_lr(config, request, console)
        return
    config, request = project.open("fit")
    from cvtrain.commands.fit import fit as run_fit

    run_fit(config, request, console)


@click.command(
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
def probe(console: "Console", project: Project) -> None:
    """Measure how well each block of a base tells the classes apart, and recommend where to cut.

    A linear classifier on the pooled features of each block, cross-validated on the training
    images: early blocks are generic and cheap, late ones specific to what the base was trained on.
    """
    config, request = project.open("probe")
    from cvtrain.commands.probe import probe as run_probe

    run_probe(config, request, console)


@click.command(
    "learning-curve",
    epilog="""\b
Examples:
  cvtrain learning-curve                         would more images like those of ./config.yaml help?
  cvtrain learning-curve --set learning_curve.seeds=10
  cvtrain learning-curve --set 'learning_curve.shares=[0.1, 0.25, 0.5, 1]'
  cvtrain learning-curve --resume

\b
The run folder then holds learning_curve.csv and figures/learning_curve.png, and no model.""",
)
@project_options
def learning_curve(console: "Console", project: Project) -> None:
    """Would more data help? Train on growing shares of the images, and say what twice as many do.

    A linear classifier on the features of the base of `extract_features:`, on several subsets of
    each size, measured on the validation and test images.
    """
    config, request = project.open("learning-curve")
    from cvtrain.commands.learning_curve import learning_curve as run_learning_curve

    run_learning_curve(config, request, console)


@click.command(
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
def extract_features(console: "Console", project: Project, features_only: bool) -> None:
    """Train a head on the features of a pretrained base, which is run once for each image.

    The base stays frozen, and the run proves it. With `views:` above 1 and an `augment:` section
    so many augmented views of each training image are computed and kept.
    """
    config, request = project.open("extract-features")
    from cvtrain.commands.extract_features import extract_features as run_extract_features

    run_extract_features(config, request, console, features_only=features_only)


@click.command(
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
def finetune(console: "Console", project: Project, source: Path | None) -> None:
    """Train the top of a run's network on, at a low learning rate; what is below stays frozen.

    The frozen part comes from the cache, so that only the top is computed in every step.
    """
    config, request = project.open("finetune")
    from cvtrain.runs.run import Run, newest_run

    if project.resume and source is None:
        source = Path(Run.open(request.path).field("source", dict)["run"])
    if source is None:
        start = newest_run(RUNS_DIR, command="extract-features", has_model=True)
        console.remark(f"from: {start.path} (the newest extract-features run)", always=True)
    else:
        start = open_run(source, console, typed=lambda run: f"--from {run}", needs_model=True)
    from cvtrain.commands.finetune import finetune as run_finetune

    run_finetune(config, request, console, source=start)


@click.command(
    epilog="""\b
Examples:
  cvtrain ladder                                 ./config.yaml
  cvtrain ladder configs/digits-transfer.yaml    offline, in minutes
  cvtrain ladder config.yaml --resume            go on with the rung that was stopped""",
)
@project_options
def ladder(console: "Console", project: Project) -> None:
    """Climb from a convnet from scratch to a fine-tuned base, and tell what each rung gains.

    Scratch, augmented, features, features with views, fine-tuned: all on one split, each compared
    with the one below by a paired test. Says first how long it will take.
    """
    config, request = project.open("ladder")
    from cvtrain.commands.ladder import ladder as run_ladder

    run_ladder(config, request, console)


@click.command(
    epilog="""\b
Examples:
  cvtrain reproduce                              the newest run with a model
  cvtrain reproduce RUN
  cvtrain reproduce RUN --data photos/           its images lie elsewhere now
  cvtrain reproduce RUN --run-dir AGAIN --resume

\b
Exit codes: 0 bit for bit the same, 7 something differs; AGAIN/reproduction.json says what.""",
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--data",
    "--source",
    "source",
    metavar="SOURCE",
    help="Where its images are now; default: where they were.",
)
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The run folder to write; default: DATE-reproduce-CONFIG beside RUN.",
)
@click.option("--resume", is_flag=True, help="Go on with an unfinished reproduction of RUN.")
@click.option("--accept-changes", is_flag=True, help="Go on with other images, too.")
@common_options
def reproduce(
    console: "Console",
    run: Path | None,
    source: str | None,
    run_dir: Path | None,
    resume: bool,
    accept_changes: bool,
) -> None:
    """Do RUN again from its config, images and environment, and report what differs.

    A run of fit, extract-features or finetune. Everything is computed anew, in a run folder and a
    cache of its own: weights, epochs, metrics and predictions are then compared bit for bit.
    """
    first = open_run(run, console)
    from cvtrain.commands.reproduce import reproduce as run_reproduce
    from cvtrain.commands.reproduce import reproduction_path

    path = run_dir or reproduction_path(first, resume=resume)
    run_reproduce(first, path, console, source=source, resume=resume, accept_changes=accept_changes)
