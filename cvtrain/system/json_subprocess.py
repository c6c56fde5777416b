"""Run a module in a separate process, which may load much or crash without harm to the caller."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cvtrain
from cvtrain.system.text import escape


def run_json_subprocess(module: str, *arguments: str, seconds: float) -> tuple[dict[str, Any], str]:
    """Run `python -m module` and read the JSON objects that it prints, one per line.

    Args:
        module: name of a module that prints each result as soon as it is known.
        arguments: arguments of its command line.
        seconds: time limit.

    Returns:
        All objects merged into one; and why the process ended early, empty when it did not.
    """
    # Ours, wherever it is installed, and never a module of the current folder.
    paths = [str(Path(cvtrain.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-P", "-m", module, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, env=environment, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        return _merged(error.stdout or b""), f"it took more than {seconds:.0f} s"
    except OSError as error:
        return {}, f"no process could be started: {(error.strerror or str(error)).lower()}"
    return _merged(done.stdout), _problem(done)


def _merged(output: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for line in output.splitlines():
        # An engine prints what it likes, and the end of time may cut a line short.
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            facts |= value if isinstance(value, dict) else {}
    return facts


def _problem(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"it was ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return escape(lines[-1])[:200] if lines else f"it ended with code {done.returncode}"
