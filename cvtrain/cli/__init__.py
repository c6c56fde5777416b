"""The command line: parse, load the config, call one function of `commands`.

Imports click, the standard library, errors and names; everything else inside the callbacks, so that
`--help` costs what click costs.
"""

import click

from cvtrain import __version__
from cvtrain.cli import images, look, start, train


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Start here:
  cvtrain init photos/                 look at the images, write config.yaml
  cvtrain data check photos/           is every image usable?
  cvtrain fit config.yaml              train, evaluate, draw
  cvtrain extract-features config.yaml train a head on a pretrained base
  cvtrain finetune config.yaml         train the top of that base, too
  cvtrain predict photos/new/*.jpg     what does the newest run say?
  cvtrain visualize --cam              where does it look?

\b
Exit codes: 0 done, 1 our fault, 2 command line or config, 3 data, 4 run folder or model,
5 disk, memory or device, 6 loss not finite, 7 not reproduced, 75 stopped, --resume continues,
130 interrupted.""",
)
@click.version_option(__version__, message="cvtrain %(version)s")
def cli() -> None:
    """From a folder of images to a trained, explained and trustworthy classifier."""


for command in (
    *(train.fit, train.probe, train.extract_features, train.finetune, train.ladder),
    *(train.learning_curve, train.reproduce),
    *(look.evaluate, look.predict, look.calibrate, look.visualize),
    *(look.report, look.compare),
    images.data,
    *(start.init, start.summary, start.doctor, start.schema),
):
    cli.add_command(command)
