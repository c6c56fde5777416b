"""Plain Keras under random kills, with its own callbacks, like cvtrain:

PYTHONPATH=tests python -m robustness.crash.stock --kills 100
"""

import hashlib
from pathlib import Path

import numpy as np
from robustness.crash.attempts import preload
from robustness.crash.campaign import arguments, campaign
from robustness.crash.outcomes import history_outcome, model_outcome
from robustness.crash.scenarios import Scenario, prepare_images

from cvtrain import backend

VARIANTS = {
    "every epoch": [],
    "every epoch, double_checkpoint": ["--double"],
    "every 10 batches, double_checkpoint": ["--double", "--every", "10"],
    "every epoch, nothing random": ["--double", "--plain"],
}


def main() -> None:
    """Parse the arguments, kill, and print the tables."""
    options = arguments(__doc__.splitlines()[0], list(VARIANTS)).parse_args()
    backend.load()
    preload("h5py", "PIL.Image")
    campaign(options, prepare)


def prepare(work: Path, variant: str, seed: int) -> Scenario:
    """The scenario of plain Keras with one setting of its callbacks."""
    images = prepare_images(work)

    def command_line(_folder: Path, _generator: np.random.Generator) -> list[str]:
        return [str(images), "--seed", str(seed), *VARIANTS[variant]]

    return Scenario(
        name=variant,
        seed=seed,
        program="robustness.crash.stock_keras",
        arguments=command_line,
        environment=lambda _folder: {"TF_CPP_MIN_LOG_LEVEL": "2"},
        outcome=_outcome,
    )


def _outcome(folder: Path) -> dict[str, str]:
    metrics = (folder / "metrics.json").read_bytes()
    return {
        **model_outcome(folder / "best.keras"),
        "history.csv": history_outcome(folder / "history.csv"),
        "metrics.json": hashlib.sha256(metrics).hexdigest(),
    }


if __name__ == "__main__":
    main()
