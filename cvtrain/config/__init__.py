"""One YAML file describes one project. Only `cli`, `api`, `commands` and `steps` know it.

The shared sections are `data:` and `augment:`; every stage (`fit:`, ...) has one of its own.
"""

from cvtrain.config.images import Augment, Columns, Data, Split
from cvtrain.config.loader import (
    config_for_source,
    config_from_values,
    config_values,
    dump_config,
    load_config,
)
from cvtrain.config.networks import Backbone, Convnet, Head, Separable
from cvtrain.config.project import Config
from cvtrain.config.stages import (
    ExtractFeatures,
    FineTune,
    Fit,
    Optimizer,
    Schedule,
    Training,
    Unfreeze,
)

__all__ = [
    "Augment",
    "Backbone",
    "Columns",
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
    "config_from_values",
    "config_values",
    "dump_config",
    "load_config",
]
