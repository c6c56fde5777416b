"""cvtrain: from a folder of images to a trustworthy image classifier.

In Python (docs/python.md) the commands are functions: `cvtrain.fit("config.yaml")` returns a `Run`.
They are imported at their first use, so that `import cvtrain` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cvtrain.version import __version__

if TYPE_CHECKING:
    from cvtrain.api import Run as Run
    from cvtrain.api import evaluate as evaluate
    from cvtrain.api import extract_features as extract_features
    from cvtrain.api import finetune as finetune
    from cvtrain.api import fit as fit
    from cvtrain.api import load_run as load_run
    from cvtrain.api import predict as predict
    from cvtrain.api import visualize as visualize
    from cvtrain.config import Config as Config
    from cvtrain.errors import ConfigError as ConfigError
    from cvtrain.errors import CvtrainError as CvtrainError
    from cvtrain.errors import DataError as DataError
    from cvtrain.errors import ResourceError as ResourceError
    from cvtrain.errors import RunError as RunError
    from cvtrain.errors import Stopped as Stopped
    from cvtrain.errors import TrainingError as TrainingError

_MODULES = {
    "cvtrain.api": (
        *("fit", "extract_features", "finetune", "evaluate", "predict", "visualize"),
        *("load_run", "Run"),
    ),
    "cvtrain.config": ("Config",),
    "cvtrain.errors": (
        *("CvtrainError", "ConfigError", "DataError", "RunError", "TrainingError"),
        *("ResourceError", "Stopped"),
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
