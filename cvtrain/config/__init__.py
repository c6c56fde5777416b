"""A YAML file -> a checked `Config`. Only `cli`, `api`, `commands` and `steps` know it.

The shared sections are `data:` and `augment:`; every stage (`fit:`, ...) has one of its own.
"""

from cvtrain.config.loader import (
    config_for_source,
    config_from_values,
    config_values,
    dump_config,
    load_config,
)
from cvtrain.config.project import Config

__all__ = [
    "Config",
    "config_for_source",
    "config_from_values",
    "config_values",
    "dump_config",
    "load_config",
]
