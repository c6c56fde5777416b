"""Profiles of Hypothesis, and the process that the targets run in.

`ci` draws the same few inputs every time. `long`, which `make fuzz` takes, draws new ones and keeps
those that fail in `.hypothesis/`, from where every later run tries them first.
"""

import os

import pytest
from fuzz_child import Child
from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("ci", derandomize=True, database=None, max_examples=60, **_COMMON)
settings.register_profile("long", max_examples=1000, print_blob=True, **_COMMON)
settings.load_profile(os.environ.get("CVTRAIN_FUZZ", "ci"))


@pytest.fixture(scope="session")
def child(tmp_path_factory):
    """Where targets run."""
    child = Child(tmp_path_factory.mktemp("fuzz"))
    yield child
    child.close()
