"""Fuzzing by hand: `python tests/robustness/fuzz/campaign.py SECONDS [TARGET ...]`, or `make fuzz`.

First Hypothesis draws new inputs for the tests in this folder until SECONDS are up. Then, where
atheris is installed, libFuzzer has SECONDS for each target, guided by what the inputs reach in
cvtrain and in the Python code that it stands on. What it keeps lies in `build/fuzz/TARGET/` and is
where the next campaign begins; an input that breaks a promise lies in `build/fuzz/found/`.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzz_seeds import SEEDS

_HERE = Path(__file__).parent
_STATUS = re.compile(r"^#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.M)


def main() -> None:
    """Run a campaign; the exit code is 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("seconds", type=int, help="for Hypothesis, and for each target")
    parser.add_argument("targets", nargs="*", help=f"{', '.join(SEEDS)}; default: all")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.targets if name not in SEEDS]:
        parser.error(f"there is no target {unknown[0]}")
    failed = [] if arguments.targets else draw(arguments.seconds)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed, so nothing is guided by coverage: pip install atheris")
    else:
        for name in arguments.targets or SEEDS:
            failed += follow(name, arguments.seconds)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def draw(seconds: int) -> list[str]:
    """Let Hypothesis draw inputs, and say whether something failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(_HERE)]
    ends, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        if subprocess.run(command, env={**os.environ, "CVTRAIN_FUZZ": "long"}).returncode:
            return ["hypothesis"]
        rounds += 1
    print(f"hypothesis: {rounds} rounds of new inputs, nothing found", flush=True)
    return []


def follow(name: str, seconds: int) -> list[str]:
    """Let libFuzzer look for inputs of one target; its name where one failed."""
    command = [sys.executable, str(_HERE / "guided.py"), name, str(seconds)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE)
    said = done.stderr.decode(errors="replace")
    if done.returncode:
        print(said[-6000:])
        return [name]
    runs, covered, features, kept = _STATUS.findall(said)[-1]
    print(
        f"{name}: {int(runs):,} inputs reach {covered} places, {features} features; {kept} kept",
        flush=True,
    )
    return []


if __name__ == "__main__":
    main()
