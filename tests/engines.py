"""What a function of a test module finds on another engine of Keras, in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

_SCRIPT = """
import importlib, sys
import numpy as np
from cvtrain import backend
engine, module, function, path = sys.argv[1:]
backend.set_up(seed=0, device="cpu")
assert backend.engine_name() == engine
np.savez(path, **getattr(importlib.import_module(module), function)())
"""


def found_on(
    engine: str, function: Callable[[], Mapping[str, np.ndarray]], path: Path
) -> Mapping[str, np.ndarray]:
    """The arrays that `function` returns there; skips the test where the engine is missing."""
    if not importlib.util.find_spec(engine):
        pytest.skip(f"{engine} is not installed")
    arguments = [engine, function.__module__, function.__name__, str(path)]
    subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments],
        env=os.environ | {"KERAS_BACKEND": engine, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    return np.load(path)
