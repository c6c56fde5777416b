"""Do the minutes that `cvtrain init` writes come true?

    python benchmarks/init_estimates.py digits
    python benchmarks/init_estimates.py PHOTOS --weights mobilenet_2_5_224_tf_no_top.h5
    python benchmarks/init_estimates.py PHOTOS --weights FILE --set fit.epochs=5

In a temporary folder and with an empty cache: init, then fit, extract-features and finetune as it
writes them, with the time of each beside what was expected, and where it went. With --set the
expectation is measured anew for the config so changed, by what init starts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cvtrain.config import dump_config, load_config
from cvtrain.runs.commands import MODEL_COMMANDS
from cvtrain.system.json_subprocess import run_json_subprocess

_MOST_SECONDS = 600.0


def main() -> None:
    """Parse the command line, run every stage, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    source = arguments.source
    source = str(Path(source).resolve()) if Path(source).exists() else source
    weights = ["--weights", str(arguments.weights.resolve())] if arguments.weights else []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["CVTRAIN_CACHE"] = str(Path(folder) / "cache")
        cvtrain("init", source, "--no-estimate", *weights)
        config = load_config(Path("config.yaml"), arguments.set)
        Path("config.yaml").write_text(dump_config(config))
        expected = seconds_expected(config.extract_features.backbone)
        print("| stage | expected, s | took, s | ratio | phases, s |\n|--|--:|--:|--:|--|")
        for stage in MODEL_COMMANDS:
            cvtrain(stage)
            phases = seconds_of(stage)
            took, wanted = phases.pop("total"), expected[stage]
            by_phase = ", ".join(f"{name} {seconds:.0f}" for name, seconds in phases.items())
            print(f"| {stage} | {wanted:.0f} | {took:.0f} | {took / wanted:.2f} | {by_phase} |")


def seconds_expected(backbone) -> dict[str, float]:
    """What init measures, with time enough."""
    bases = json.dumps([[backbone.name, backbone.alpha]])
    facts, problem = run_json_subprocess(
        "cvtrain.commands.init.stage_timing", "config.yaml", bases, seconds=_MOST_SECONDS
    )
    if problem:
        raise SystemExit(f"not measured: {problem}")
    return facts


def cvtrain(*arguments: str) -> None:
    """Run a command in the temporary folder, silently unless it fails."""
    command = [sys.executable, "-m", "cvtrain", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def seconds_of(command: str) -> dict[str, float]:
    """The time of the run that `command` has just written, in all and by phase."""
    (record,) = (
        record
        for path in Path("runs").glob("*/run.json")
        if (record := json.loads(path.read_text()))["command"] == command
    )
    return record["seconds"]


if __name__ == "__main__":
    main()
