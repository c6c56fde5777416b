"""`cvtrain data fetch`: download a named data set as a folder of images."""

from pathlib import Path

from cvtrain.data.sources import NAMED_SETS, fetch, is_fetched
from cvtrain.steps.dataset import DATA_DIR
from cvtrain.system.console import Console
from cvtrain.system.signals import stop_on_signals
from cvtrain.system.text import escape, shell_quote

_MOST_LISTED = 20


def data_fetch(
    name: str, folder: Path | None, *, subset: str | None, local: Path | None, console: Console
) -> None:
    """Fetch the set `name` into `folder`, by default `data/NAME` or `data/NAME-SUBSET`.

    Raises:
        ConfigError, DataError, ResourceError, Stopped: as `sources.fetch`.
    """
    folder = folder or DATA_DIR / (f"{name}-{subset}" if subset else name)
    if is_fetched(folder, name, subset):
        console.print(f"{escape(folder)}: the data set is already there")
        return
    with stop_on_signals() as stop:
        fetched = fetch(name, folder, subset=subset, local=local, stop=stop, task=console.task)
    for file, copy in zip(NAMED_SETS[name].files, fetched.files, strict=True):
        if copy.is_published:
            console.info(f"{escape(copy.path)}: the published file ({copy.digest})")
        else:
            console.warning(
                f"{escape(copy.path)}: not the published file: its digest is {copy.digest}, "
                f"not {file.digest}; it is used because --file names it"
            )
    for line in fetched.left_out[:_MOST_LISTED]:
        console.warning(f"left out: {escape(line)}")
    if more := fetched.left_out[_MOST_LISTED:]:
        console.warning(f"left out: {len(more):,} more")
    console.print(f"{escape(folder)}: the data set is complete")
    console.info(f"To look at it: cvtrain data stats {shell_quote(folder)}")
