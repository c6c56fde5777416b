"""The commands that look at images before training: `cvtrain data`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvtrain.cli.options import common_options, set_option

if TYPE_CHECKING:
    from cvtrain.config import Config
    from cvtrain.console import Console


@click.group()
def data() -> None:
    """Look at images before training."""


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
