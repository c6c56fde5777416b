"""The programs of this folder, run as a person runs them."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run_program(name: str, *arguments: str, seconds: float = 600) -> str:
    """What a program prints; AssertionError with all of it when its exit code is not 0."""
    command = [sys.executable, str(HERE / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
