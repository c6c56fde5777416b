"""The commands for a start: what may a config say, what is in it, what can this machine do?"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvtrain.cli.options import columns_option, common_options, force_option, set_option

if TYPE_CHECKING:
    from cvtrain.config import Columns
    from cvtrain.system.console import Console


@click.command(
    epilog="""\b
Examples:
  cvtrain schema > config.schema.json

\b
An editor with a YAML language server then completes and checks a config that begins with
# yaml-language-server: $schema=config.schema.json""",
)
@common_options
def schema(console: "Console") -> None:
    """Print what a config may say as JSON Schema, for editors."""
    import json

    from cvtrain.config.schema import config_schema

    console.result(json.dumps(config_schema(), indent=2))


@click.command(
    epilog="""\b
Examples:
  cvtrain init photos/                           writes ./config.yaml
  cvtrain init photos/ --output projects/pets.yaml
  cvtrain init photos/ --weights mobilenet_2_5_224_tf_no_top.h5
  cvtrain init flat/ --label '(cat|dog)\\.'       classes that stand in the paths below PATH
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
    help="The config to write.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keras' file of pretrained weights; default: what Keras has or can fetch.",
)
@click.option("--label", metavar="PATTERN", help="Take the class from the path of each file.")
@force_option
@columns_option
@click.option(
    "--no-estimate", is_flag=True, help="Do not measure how long each stage will take here."
)
@common_options
def init(
    console: "Console",
    path: str,
    output: Path,
    weights: Path | None,
    label: str | None,
    columns: "Columns | None",
    force: bool,
    no_estimate: bool,
) -> None:
    """Look at the images of PATH and write a commented config that trains as it is.

    PATH is what data.source may be: a folder, a CSV manifest, an .npz file or a named set.
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
The exit code is 5 when something is bad, 0 otherwise.""",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@common_options
def doctor(console: "Console", as_json: bool) -> None:
    """Tell what this machine can do, and what to fix: versions, devices, speed, room, weights."""
    from cvtrain.commands.doctor import doctor as run_doctor

    run_doctor(as_json=as_json, console=console)


@click.command(
    epilog="""\b
Examples:
  cvtrain summary                                the convnet of ./config.yaml
  cvtrain summary --set fit.model.padding=same   what does padding change?
  cvtrain summary --set fit.model.strides=2 --set fit.model.pooling=1
  cvtrain summary --stage finetune               what is frozen, what is trained
  cvtrain summary --stage extract-features --set extract_features.backbone.name=vgg16 --layers

\b
A cell sees more of the image with every window above it, and twice as fast after a pooling of 2:
compare what the last map sees with the size of what you want to tell apart.""",
)
@click.argument("config", default="config.yaml", type=click.Path(path_type=Path))
@click.option(
    "--stage",
    type=click.Choice(["fit", "extract-features", "finetune"]),
    default="fit",
    show_default=True,
    help="Whose network.",
)
@click.option(
    "--classes",
    "num_classes",
    type=click.IntRange(2),
    metavar="N",
    help="How many classes; default: those of data.classes, or 10.",
)
@click.option("--layers", "every_layer", is_flag=True, help="Every layer of a large base.")
@set_option
@common_options
def summary(
    console: "Console",
    config: Path,
    stage: str,
    num_classes: int | None,
    every_layer: bool,
    overrides: tuple[str, ...],
) -> None:
    """Show a network layer by layer: shapes, parameters, multiply-adds, receptive fields.

    No image is needed: this is a place to try padding, strides and pooling.
    """
    from cvtrain.commands.summary import summary as run_summary
    from cvtrain.config import load_config

    settings = load_config(config, overrides)
    run_summary(settings, stage, num_classes=num_classes, every_layer=every_layer, console=console)
