"""Learning curves as plots: of one run, and of several over each other."""

from collections.abc import Mapping, Sequence

from cvtrain.reports.plots import Plot, Series, plot

History = Mapping[str, Sequence[float]]
_METRICS = (("loss", "Loss", False), ("accuracy", "Accuracy", True))


def curves_of_run(
    history: History, best_epoch: int | None, start: Mapping[str, float] | None = None
) -> list[Plot]:
    """Loss and accuracy, training and validation, by epoch; none without epochs.

    Args:
        history: columns of `history.csv`.
        best_epoch: whose weights were kept; 0 for those of the start.
        start: `val_loss` and `val_accuracy` before the first epoch, where they were measured.
    """
    if not history or not history["epoch"]:
        return []
    mark = None
    if best_epoch is not None and (best_epoch or start):
        mark = (best_epoch, f"kept: epoch {best_epoch}" if best_epoch else "kept: the start")
    epochs, plots = history["epoch"], []
    for key, title, is_share in _METRICS:
        first = [start[f"val_{key}"]] if start else []
        validation = [*first, *history[f"val_{key}"]]
        series = {
            "training": (epochs, history[key]),
            "validation": ([0.0] * len(first) + [*epochs], validation),
        }
        plots.append(_plot(title, series, is_share, mark))
    return plots


def curves_of_runs(histories: Mapping[str, History]) -> list[Plot]:
    """Validation loss and accuracy of several runs, by epoch; of those that have epochs."""
    with_epochs = {name: history for name, history in histories.items() if history}
    if not with_epochs:
        return []
    longest = max((history["epoch"] for history in with_epochs.values()), key=len)
    return [
        _plot(
            f"Validation {key}",
            {
                name: (longest[: len(history["epoch"])], history[f"val_{key}"])
                for name, history in with_epochs.items()
            },
            is_share,
        )
        for key, _, is_share in _METRICS
    ]


def _plot(
    title: str,
    columns: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    is_share: bool,
    mark: tuple[float, str] | None = None,
) -> Plot:
    def shown(value: float) -> str:
        return f"{value:.1%}" if is_share else f"{value:.3f}"

    summary = "; ".join(
        f"{name} from {shown(values[0])} to {shown(values[-1])}"
        for name, (_, values) in columns.items()
    )
    return plot(
        title,
        [Series(name, epochs, values) for name, (epochs, values) in columns.items()],
        x_label="epoch",
        summary=f"By epoch: {summary}.",
        y_is_share=is_share,
        mark=mark,
    )
