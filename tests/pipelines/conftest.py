"""One tiny run, trained once for all tests that look at a finished run."""

import pytest

from cvtrain.config import load_config
from cvtrain.console import Console
from cvtrain.pipelines.fit import fit
from cvtrain.run import RunRequest

CONFIG = """
seed: 3
precision: float32
data: {{source: {source}, image_size: [16, 20]}}
augment: {{flip: horizontal, rotate: 10, brightness: 0.1}}
fit:
  model: {{filters: [4, 8], dense: [8], dropout: 0.2, batch_normalization: true}}
  epochs: 4
  batch_size: 8
  optimizer: {{name: adam, learning_rate: 1e-2}}
  schedule: {{name: plateau, patience: 1}}
"""


@pytest.fixture(scope="session")
def config_path(tmp_path_factory, image_folder):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG.format(source=image_folder))
    return path


@pytest.fixture(scope="session")
def train(config_path):
    """train(folder, *overrides, resume=False, console=...) -> Run"""

    def run(folder, *overrides, resume=False, console=None):
        config = load_config(config_path, overrides)
        return fit(config, RunRequest(folder, "tiny", resume), console or Console(quiet=True))

    return run


@pytest.fixture(scope="session")
def finished(train, tmp_path_factory):
    """A finished run."""
    return train(tmp_path_factory.mktemp("runs") / "finished")
