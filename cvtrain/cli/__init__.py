"""The command line: parse, load the config, call one function of `commands`.

The modules here import only click, the standard library and what uses nothing else at the top, so
that `--help` takes at most 2.5 times as long as `import click`. Functions import the rest:
`commands`, `config` and `runs.run` need pydantic (115 modules), and `data.scan` needs
`system.files` (20 modules).
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import click

from cvtrain.cli import images, look, start, train
from cvtrain.cli.options import WholeSentences
from cvtrain.version import __version__

_GROUPS = start.GROUPS | images.GROUPS | train.GROUPS | look.GROUPS


class _Commands(WholeSentences):
    groups: ClassVar[Mapping[str, Sequence[str]]] = {
        title: [each.name or "" for each in group] for title, group in _GROUPS.items()
    }


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Start here:
  cvtrain init photos/                 inspect the images, write config.yaml
  cvtrain data check photos/           check every image
  cvtrain fit config.yaml              train a convnet from scratch
  cvtrain extract-features config.yaml train a head on a pretrained backbone
  cvtrain finetune config.yaml         train the top layers of that backbone, too
  cvtrain predict photos/new/*.jpg     classify images with the newest run
  cvtrain visualize --cam              draw class-activation maps

\b
Exit codes: 0 success, 1 defect of cvtrain, 2 command line or config, 3 data, 4 run folder or model,
5 disk, memory or device, 6 loss not finite, 7 not reproduced, 75 stopped (--resume continues),
130 interrupted.""",
)
@click.version_option(__version__, message="cvtrain %(version)s")
def cli() -> None:
    """From a folder of images to a trained, explained and trustworthy classifier."""


for group in _GROUPS.values():
    for command in group:
        cli.add_command(command)
