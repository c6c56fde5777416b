"""The commands init, doctor, summary and schema."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvtrain.cli.options import columns_option, common_options, force_option, set_option
from cvtrain.runs.commands import MODEL_COMMANDS
from cvtrain.system.console import Console

if TYPE_CHECKING:
    from cvtrain.sections import Columns


@click.command(
    epilog="""\b
Examples:
  cvtrain schema > config.schema.json

\b
An editor with a YAML language server then completes and checks a config that begins with
# yaml-language-server: $schema=config.schema.json""",
)
@common_options
def schema(console: Console) -> None:
    """Print the JSON Schema of the config, for editors."""
    import json

    from cvtrain.config.schema import config_schema

    console.print(json.dumps(config_schema(), indent=2))


@click.command(
    epilog="""\b
Examples:
  cvtrain init photos/                           writes ./config.yaml
  cvtrain init photos/ --output projects/pets.yaml
  cvtrain init photos/ --weights mobilenet_2_5_224_tf_no_top.h5
  cvtrain init flat/ --label '(cat|dog)\\.'       classes are found in the paths below PATH
  cvtrain init digits --no-estimate
  cvtrain init list.csv --columns '{path: id, label: breed, folder: train, suffix: .jpg}'

\b
Then, in this order:
  cvtrain fit config.yaml
  cvtrain extract-features
  cvtrain finetune
  cvtrain visualize --cam""",
)
@click.argument("path", metavar="PATH")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="config.yaml",
    show_default=True,
    metavar="FILE",
    help="Config to write.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File of pretrained Keras weights (default: those that Keras has or can download).",
)
@click.option(
    "--label", metavar="PATTERN", help="Pattern that finds the class in the path of each file."
)
@force_option
@columns_option
@click.option(
    "--no-estimate",
    is_flag=True,
    help="Do not measure how long each stage will take on this machine.",
)
@common_options
def init(
    console: Console,
    path: str,
    output: Path,
    weights: Path | None,
    label: str | None,
    columns: "Columns | None",
    force: bool,
    no_estimate: bool,
) -> None:
    """Inspect images and write a config that is ready to train.

    PATH is a folder, a CSV manifest, an .npz file or a named set.
    """
    from cvtrain.commands.init import init as run_init

    run_init(
        path,
        output,
        weights_file=weights,
        label=label,
        columns=columns,
        force=force,
        estimate=not no_estimate,
        console=console,
    )


@click.command(
    epilog="""\b
Examples:
  cvtrain doctor
  cvtrain doctor --json > doctor.json

\b
The exit code is 5 if a check fails, and 0 otherwise.""",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@common_options
def doctor(console: Console, as_json: bool) -> None:
    """Check versions, devices, speed, disk and weights."""
    from cvtrain.commands.doctor import doctor as run_doctor

    run_doctor(as_json=as_json, console=console)


@click.command(
    epilog="""\b
Examples:
  cvtrain summary                                the convnet of ./config.yaml
  cvtrain summary --set fit.model.padding=same   the effect of padding
  cvtrain summary --set fit.model.strides=2 --set fit.model.pooling=1
  cvtrain summary --stage finetune               which layers are frozen and trained
  cvtrain summary --stage extract-features --set extract_features.backbone.name=vgg16 --layers

\b
The receptive field grows with every layer, and twice as fast after a pooling of 2. Compare that of
the last feature map with the size of the objects to classify.""",
)
@click.argument("config", default="config.yaml", type=click.Path(path_type=Path))
@click.option(
    "--stage",
    type=click.Choice(MODEL_COMMANDS),
    default="fit",
    show_default=True,
    help="Stage whose network to show.",
)
@click.option(
    "--classes",
    "num_classes",
    type=click.IntRange(2),
    metavar="N",
    help="Number of classes (default: those of data.classes, or 10).",
)
@click.option("--layers", "every_layer", is_flag=True, help="Show every layer of a large backbone.")
@set_option
@common_options
def summary(
    console: Console,
    config: Path,
    stage: str,
    num_classes: int | None,
    every_layer: bool,
    overrides: tuple[str, ...],
) -> None:
    """Show the layers of a network, with shapes and parameters.

    No image is needed, so that padding, strides and pooling can be tried out.
    """
    from cvtrain.commands.summary import summary as run_summary
    from cvtrain.config import load_config

    settings = load_config(config, overrides)
    run_summary(settings, stage, num_classes=num_classes, every_layer=every_layer, console=console)


GROUPS = {"Start": (init, doctor, summary, schema)}
"""The commands of this file in the order of `--help`, under their headings."""
