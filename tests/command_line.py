"""Commands as a person types them, many of them in one process of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

RUN_ALL = """
import contextlib, io, json, sys
from cvtrain import __main__
told = {}
for name, arguments in json.load(sys.stdin).items():
    sys.argv = ["cvtrain", *arguments]
    with contextlib.redirect_stderr(io.StringIO()) as err, \\
            contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            __main__.main()
        except SystemExit as exit:
            told[name] = [exit.code, out.getvalue(), err.getvalue()]
print(json.dumps([told, sorted({"tensorflow", "keras"} & set(sys.modules))]))
"""


class Told(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def run_all(commands: dict[str, list[str]], here: Path) -> tuple[dict[str, Told], list[str]]:
    """What each of the named commands says in the folder `here`, and which engines it loaded."""
    done = subprocess.run(
        # TensorFlow's tensors do not know NumPy 2's copy keyword yet.
        [sys.executable, "-W", "error", "-W", "ignore:__array__ impl", "-c", RUN_ALL],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=here,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    told, engines = json.loads(done.stdout.splitlines()[-1])
    return {name: Told(*each) for name, each in told.items()}, engines
