"""libFuzzer for one target: `guided.py TARGET SECONDS`; `campaign.py` starts it.

atheris counts what an input reaches in every module that is imported under its eyes, so nothing of
cvtrain may be imported before.
"""

import sys
from pathlib import Path

import atheris

FOLDER = Path("build") / "fuzz"
_LIMITS = ["-timeout=60", "-rss_limit_mb=4096", "-max_len=65536"]

with atheris.instrument_imports(include=["cvtrain", "yaml", "PIL", "zipfile", "csv"]):
    from fuzz_found import FOUND
    from fuzz_seeds import SEEDS
    from fuzz_targets import TARGETS


def main(name: str, seconds: str) -> None:
    """Begin with sound inputs, with what was found before, and with what is kept of campaigns."""
    kept, found = FOLDER / name, FOLDER / "found"
    for folder in (kept, found):
        folder.mkdir(parents=True, exist_ok=True)
    known = [*SEEDS[name](), *(content for target, content in FOUND.values() if target == name)]
    for number, content in enumerate(known):
        (kept / f"known-{number}").write_bytes(content)
    options = [*_LIMITS, f"-max_total_time={seconds}", f"-artifact_prefix={found}/{name}-"]
    atheris.Setup([sys.argv[0], *options, str(kept)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
