"""What the curves of a training say: told when it ends, and kept in `run.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from textwrap import indent

from cvtrain.console import Console
from cvtrain.pipelines.job import Job
from cvtrain.reports.curves import Stage, read_curves
from cvtrain.reports.folder import read_history

_MOST_TOLD = 2


def readings_of(job: Job) -> list[dict[str, str]]:
    """`reading` of run.json, the most important first; empty where nothing was trained by epochs.

    Of several steps of fine-tuning, whose curves follow each other, nothing is said.
    """
    history = read_history(job.run)
    name = job.run.record["command"].replace("-", "_")
    section = getattr(job.config, name)
    if not history or getattr(section, "then", ()):
        return []
    index = job.dataset.index
    stage = Stage(
        name,
        job.config.model_dump(mode="json"),
        num_classes=len(index.class_names),
        num_validation=len(index.splits["validation"].paths),
    )
    return [asdict(reading) for reading in read_curves(history, stage)]


def tell_readings(readings: Sequence[Mapping[str, str]], console: Console) -> None:
    """Print the most important ones, with the YAML to try."""
    for reading in readings[:_MOST_TOLD]:
        console.result(f"\n{reading['detail']}")
        if reading["proposal"]:
            console.result(f"To try:\n{indent(reading['proposal'].rstrip(), '  ')}")
