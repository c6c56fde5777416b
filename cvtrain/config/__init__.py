"""One YAML file describes one project. Only `cli` and `pipelines` know about it.

The shared sections are `data:` and `augment:`; every stage (`fit:`, ...) has one of its own.
"""

from cvtrain.config.loader import config_for_source, config_values, dump_config, load_config
from cvtrain.config.sections import (
    Augment,
    Backbone,
    Config,
    Convnet,
    Data,
    ExtractFeatures,
    FineTune,
    Fit,
    Head,
    Optimizer,
    Schedule,
    Separable,
    Split,
    Training,
    Unfreeze,
)

__all__ = [
    "Augment",
    "Backbone",
    "Config",
    "Convnet",
    "Data",
    "ExtractFeatures",
    "FineTune",
    "Fit",
    "Head",
    "Optimizer",
    "Schedule",
    "Separable",
    "Split",
    "Training",
    "Unfreeze",
    "config_for_source",
    "config_values",
    "dump_config",
    "load_config",
]
