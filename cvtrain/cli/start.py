"""The commands for a start: what may a config say, what is in it, what can this machine do?"""

from typing import TYPE_CHECKING

import click

from cvtrain.cli.options import common_options

if TYPE_CHECKING:
    from cvtrain.console import Console


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

    console.result(json.dumps(config_schema(), indent=2, ensure_ascii=False))
