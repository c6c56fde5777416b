"""One YAML file describes one project. Only `cli` and `pipelines` know about it.

The shared sections are `data:` and `augment:`; every stage (`fit:`, ...) has one of its own.
"""

from cvtrain.config.loader import config_for_source, dump_config, load_config
from cvtrain.config.sections import Augment, Config, Data, Fit, Model, Optimizer, Schedule, Split

__all__ = [
    "Augment",
    "Config",
    "Data",
    "Fit",
    "Model",
    "Optimizer",
    "Schedule",
    "Split",
    "config_for_source",
    "dump_config",
    "load_config",
]
