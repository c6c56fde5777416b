"""The commands that train or measure, and write a run folder."""

from pathlib import Path

import click

from cvtrain.cli.named import RUNS_DIR, open_run
from cvtrain.cli.options import Project, common_options, project_options
from cvtrain.errors import ConfigError
from cvtrain.system.console import Console


@click.command(
    epilog="""\b
Examples:
  cvtrain fit                                    ./config.yaml
  cvtrain fit configs/digits.yaml                offline, in a minute
  cvtrain fit configs/scratch.yaml --set data.source=photos/ --set fit.epochs=5
  cvtrain fit config.yaml --find-lr              suggest a learning rate
  cvtrain fit config.yaml --resume               continue its newest unfinished run
  cvtrain fit runs/20260101-120000-fit-config --resume
  cvtrain fit runs/20260101-120000-fit-config --resume --set fit.epochs=50 --accept-changes

\b
The run folder holds model.keras, run.json, history.csv, predictions-*.csv and figures/.""",
)
@click.option(
    "--find-lr",
    is_flag=True,
    help="Suggest a learning rate by a short training at rising rates; no model is kept.",
)
@project_options
def fit(console: Console, project: Project, find_lr: bool) -> None:
    """Train a convnet from scratch and evaluate it.

    If the config has an `augment:` section, the training images are changed at random in each
    epoch.
    """
    if find_lr:
        if project.resume:
            raise ConfigError("--find-lr cannot be resumed", "Leave --resume out.")
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
  cvtrain probe                                  the backbone of ./config.yaml
  cvtrain probe --set 'probe.image_sizes=[96, 160, 224]'
  cvtrain probe --set 'probe.backbones=[{name: vgg16}, {name: mobilenet, alpha: 0.25}]'
  cvtrain probe --set data.train_per_class=100   faster and less exact

\b
The run folder holds probe.csv and figures/probe.png, but no model.""",
)
@project_options
def probe(console: Console, project: Project) -> None:
    """Measure which block of a backbone has the best features.

    A linear classifier on the pooled features of each block is cross-validated on the training
    images. Early blocks are generic and fast; late ones are specialized to the pretraining classes.
    The command recommends a value of `backbone.cut`.
    """
    config, request = project.open("probe")
    from cvtrain.commands.probe import probe as run_probe

    run_probe(config, request, console)


@click.command(
    "learning-curve",
    epilog="""\b
Examples:
  cvtrain learning-curve                         for the images of ./config.yaml
  cvtrain learning-curve --set learning_curve.seeds=10
  cvtrain learning-curve --set 'learning_curve.shares=[0.1, 0.25, 0.5, 1]'
  cvtrain learning-curve --resume

\b
The run folder holds learning_curve.csv and figures/learning_curve.png, but no model.""",
)
@project_options
def learning_curve(console: Console, project: Project) -> None:
    """Estimate how much more training images would help.

    A linear classifier on the features of the backbone of `extract_features:` is trained on
    several subsets of each size and measured on the validation and test images.
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
Features are cached in $CVTRAIN_CACHE (default on Linux: ~/.cache/cvtrain), so that a second head
takes seconds.""",
)
@click.option(
    "--features-only",
    is_flag=True,
    help="Write the features to .npy and .parquet files, and train nothing.",
)
@project_options
def extract_features(console: Console, project: Project, features_only: bool) -> None:
    """Train a head on features of a frozen, pretrained backbone.

    The backbone computes the features of each image once. Digests of its layers prove that it stays
    frozen. With `views: N` and an `augment:` section, the features of N augmented views of each
    training image are computed and cached.
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
    help="Run to start from (default: the newest extract-features run).",
)
@project_options
def finetune(console: Console, project: Project, source: Path | None) -> None:
    """Continue training the top layers of a run.

    The learning rate is low, and the layers below stay frozen. Their features are read from the
    cache, so that each step computes the top layers alone.
    """
    config, request = project.open("finetune")
    from cvtrain.runs.run import Run, newest_run

    if project.resume and source is None:
        source = Path(Run.open(request.path).require_source().run)
    if source is None:
        start = newest_run(RUNS_DIR, command="extract-features", has_model=True)
        console.info(f"from: {start.path} (the newest extract-features run)", always=True)
    else:
        start = open_run(source, console, typed=lambda run: f"--from {run}", needs_model=True)
    from cvtrain.commands.finetune import finetune as run_finetune

    run_finetune(config, request, console, source=start)


@click.command(
    epilog="""\b
Examples:
  cvtrain ladder                                 ./config.yaml
  cvtrain ladder configs/digits-transfer.yaml    offline, in minutes
  cvtrain ladder config.yaml --resume            continue with the stage that was stopped""",
)
@project_options
def ladder(console: Console, project: Project) -> None:
    """Run all stages, from scratch to fine-tuned, and compare them.

    The stages are: from scratch, augmented, features, features of augmented views, fine-tuned. All
    use the same split, and a paired test compares each with the one before. The command first
    prints how long it will take.
    """
    config, request = project.open("ladder")
    from cvtrain.commands.ladder import ladder as run_ladder

    run_ladder(config, request, console)


@click.command(
    epilog="""\b
Examples:
  cvtrain reproduce                              the newest run with a model
  cvtrain reproduce RUN
  cvtrain reproduce RUN --data photos/           the images have moved
  cvtrain reproduce RUN --run-dir AGAIN --resume

\b
Exit codes: 0 identical bit for bit, 7 different; AGAIN/reproduction.json lists the differences.""",
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--data",
    "--source",
    "source",
    metavar="SOURCE",
    help="New location of the images (default: the recorded one).",
)
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Run folder to write (default: DATE-reproduce-CONFIG beside RUN).",
)
@click.option("--resume", is_flag=True, help="Continue an unfinished reproduction of RUN.")
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Continue even if the images differ from those of the run.",
)
@common_options
def reproduce(
    console: Console,
    run: Path | None,
    source: str | None,
    run_dir: Path | None,
    resume: bool,
    accept_changes: bool,
) -> None:
    """Repeat a run from its config, and report any difference.

    RUN is a run of fit, extract-features or finetune (default: the newest with a model). Everything
    is computed again in a new run folder and a new cache. Weights, epochs, metrics and predictions
    are then compared bit for bit.
    """
    first = open_run(run, console)
    from cvtrain.commands.reproduce import reproduce as run_reproduce
    from cvtrain.commands.reproduce import reproduction_path

    path = run_dir or reproduction_path(first, resume=resume)
    run_reproduce(first, path, console, source=source, resume=resume, accept_changes=accept_changes)


GROUPS = {"Train": (fit, extract_features, finetune, ladder, probe, learning_curve, reproduce)}
"""As in `cli.start`."""
