"""The commands on images before training: `cvtrain data`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvtrain.cli.options import (
    WholeSentences,
    columns_option,
    common_options,
    force_option,
    set_option,
)
from cvtrain.errors import ConfigError
from cvtrain.system.console import Console

if TYPE_CHECKING:
    from cvtrain.config import Config


def _share_option(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        name,
        type=click.FloatRange(0, 1, max_open=True),
        default=0.15,
        show_default=True,
        help=f"Share of the images for {name.removeprefix('--')}, if the source has no such split.",
    )


@click.group(cls=WholeSentences)
def data() -> None:
    """Check, measure, split, convert and download images."""


@data.command(
    epilog="""\b
Examples:
  cvtrain data check photos/
  cvtrain data check config.yaml
  cvtrain data check config.yaml --set data.source=photos/

\b
The exit code is 3 if a file is damaged, and 0 if files are at most doubtful.""",
)
@click.argument("path", default="config.yaml", metavar="[PATH|CONFIG]")
@set_option
@common_options
def check(console: Console, path: str, overrides: tuple[str, ...]) -> None:
    """List every damaged or doubtful image file.

    PATH is a folder, a manifest or a named set.
    """
    from cvtrain.commands.data_check import data_check

    data_check(_config_of(path, overrides), console=console)


@data.command(
    epilog="""\b
Examples:
  cvtrain data stats photos/
  cvtrain data stats config.yaml --output looks/

\b
Copies decode to the same pixels. Near duplicates look alike: the same photograph in another size,
compressed again or slightly changed. DIR then holds stats.json, duplicates.csv and pictures.""",
)
@click.argument("path", default="config.yaml", metavar="[PATH|CONFIG]")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for figures and images (default: stats/NAME).",
)
@set_option
@common_options
def stats(console: Console, path: str, overrides: tuple[str, ...], output: Path | None) -> None:
    """Report classes, sizes, colours, duplicates and near duplicates."""
    from cvtrain.commands.data_stats import data_stats

    data_stats(_config_of(path, overrides), output=output, console=console)


@data.command(
    epilog="""\b
Examples:
  cvtrain data split photos/ --output manifest.csv
  cvtrain data split scans/ --output manifest.csv --group '(patient\\d+)_'
  cvtrain data split flat/ --output manifest.csv --label '(cat|dog)\\.'
  cvtrain data split list.csv --output manifest.csv --columns '{path: id, label: breed}'

\b
Patterns are Python's regular expressions, searched in the path below PATH, with one group in
parentheses. To train on the split: data: {source: manifest.csv}""",
)
@click.argument("path")
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="Manifest to write, with the columns path,label,split.",
)
@_share_option("--validation")
@_share_option("--test")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Random seed of the split.",
)
@click.option(
    "--group",
    metavar="PATTERN",
    help="Pattern that finds the group of a file; a group is kept in one split.",
)
@click.option("--label", metavar="PATTERN", help="Pattern that finds the class in a file name.")
@force_option
@columns_option
@common_options
def split(console: Console, path: str, output: Path, **options: Any) -> None:
    """Write a stratified, group-aware split to a CSV manifest.

    All copies of an image and all images of a group are kept in one split. Images that cannot be
    used are listed and left out.
    """
    from cvtrain.commands.data_split import data_split

    if output.suffix.lower() != ".csv":
        raise ConfigError(
            f"--output {output}: must end in .csv", "For example: --output manifest.csv"
        )
    data_split(path, output, console=console, **options)


@data.command(
    epilog="""\b
Examples:
  cvtrain data convert scans/
  cvtrain data convert scans/ --output pictures/

\b
AVIF, DDS, icons, JPEG 2000, PCX, Photoshop, PNM, QOI, SGI, TGA and TIFF become PNG; HEIC with
pip install 'cvtrain[heif]', DICOM with pip install 'cvtrain[dicom]'. 16 bits stay 16 bits.
Convert only files that you trust: the code that reads these formats is less hardened.""",
)
@click.argument("folder")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write (default: FOLDER-png beside it).",
)
@common_options
def convert(console: Console, folder: str, output: Path | None) -> None:
    """Convert a folder of images in other formats to PNG.

    The new folder has the same subfolders. Images that cvtrain can read are copied. Damaged files
    are listed and left out.
    """
    from cvtrain.commands.data_convert import data_convert

    data_convert(folder, output, console=console)


@data.command(
    epilog="""\b
Examples:
  cvtrain data fetch digits                              needs no network
  cvtrain data fetch fashion_mnist
  cvtrain data fetch cats_vs_dogs --subset book2         1,000, 500, 1,000 photographs of each class
  cvtrain data fetch cifar10 --file cifar-10-python.tar.gz

\b
Sets: digits, mnist, fashion_mnist, cifar10, cats_vs_dogs (subsets: book1, book2).
Downloads continue where they were interrupted, and are checked by their published digests.""",
)
@click.argument("name")
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(path_type=Path))
@click.option("--subset", metavar="SUBSET", help="Named subset to take.")
@click.option(
    "--file",
    "local",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Local copy of the download, or a folder with it.",
)
@common_options
def fetch(
    console: Console, name: str, folder: Path | None, subset: str | None, local: Path | None
) -> None:
    """Download a named data set, as a folder of images.

    DIR defaults to data/NAME.
    """
    from cvtrain.commands.data_fetch import data_fetch

    data_fetch(name, folder, subset=subset, local=local, console=console)


def _config_of(path: str, overrides: tuple[str, ...]) -> "Config":
    from cvtrain.config import config_for_source, load_config

    if path.lower().endswith((".yaml", ".yml")):
        return load_config(Path(path), overrides)
    return config_for_source(path, overrides)


GROUPS = {"Images": (data,)}
"""As in `cli.start`."""
