"""Learning curves as plots: of one run, and of several over each other."""

from collections.abc import Mapping, Sequence

from cvtrain.reports.plots import Plot, Series, plot

History = Mapping[str, Sequence[float]]
_METRICS = (("loss", "Loss", False), ("accuracy", "Accuracy", True))


def curves_of_run(history: History, best_epoch: int | None) -> list[Plot]:
    """Loss and accuracy, training and validation, by epoch; none without epochs.

    Args:
        history: columns of `history.csv`.
        best_epoch: whose weights were kept.
    """
    if not history or not history["epoch"]:
        return []
    mark = (best_epoch, f"kept: epoch {best_epoch}") if best_epoch else None
    return [
        _plot(
            title,
            {"training": history[key], "validation": history[f"val_{key}"]},
            history["epoch"],
            is_share,
            mark,
        )
        for key, title, is_share in _METRICS
    ]


def curves_of_runs(histories: Mapping[str, History]) -> list[Plot]:
    """Validation loss and accuracy of several runs, by epoch; of those that have epochs."""
    with_epochs = {name: history for name, history in histories.items() if history}
    if not with_epochs:
        return []
    longest = max((history["epoch"] for history in with_epochs.values()), key=len)
    return [
        _plot(
            f"Validation {key}",
            {name: history[f"val_{key}"] for name, history in with_epochs.items()},
            longest,
            is_share,
        )
        for key, _, is_share in _METRICS
    ]


def _plot(
    title: str,
    columns: Mapping[str, Sequence[float]],
    epochs: Sequence[float],
    is_share: bool,
    mark: tuple[float, str] | None = None,
) -> Plot:
    def shown(value: float) -> str:
        return f"{value:.1%}" if is_share else f"{value:.3f}"

    summary = "; ".join(
        f"{name} from {shown(values[0])} to {shown(values[-1])}" for name, values in columns.items()
    )
    return plot(
        title,
        [Series(name, epochs[: len(values)], values) for name, values in columns.items()],
        x_label="epoch",
        summary=f"By epoch: {summary}.",
        y_is_share=is_share,
        mark=mark,
    )
