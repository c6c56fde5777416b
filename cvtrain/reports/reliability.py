"""How often is the model right when it says that it is sure? A plot of the bins of confidence."""

from collections.abc import Mapping, Sequence

from cvtrain.evaluation.metrics import accuracy_interval
from cvtrain.reports.plots import Plot, Series, plot

Bins = Sequence[Mapping[str, float]]


def reliability_plot(bins: Bins, bins_after: Bins = ()) -> Plot:
    """Accuracy with its 95 % interval against confidence; on the diagonal the two are equal.

    Args:
        bins: `metrics.calibration_bins` of the model as it is.
        bins_after: of the same model with its temperature; empty for none.
    """
    series = [Series("", (0, 1), (0, 1)), _series("as the model says it", bins)]
    if bins_after:
        series.append(_series("with its temperature", bins_after))
    return plot(
        "Accuracy by confidence",
        series,
        x_label="confidence",
        summary="; ".join(
            f"of {row['num_images']} images at {row['confidence']:.0%}, "
            f"{row['accuracy']:.0%} are right"
            for row in bins
        ),
        x_range=(0, 1),
        y_range=(0, 1),
        x_is_share=True,
        y_is_share=True,
    )


def _series(name: str, bins: Bins) -> Series:
    intervals = [accuracy_interval(row["num_correct"], row["num_images"]) for row in bins]
    return Series(
        name,
        [row["confidence"] for row in bins],
        [row["accuracy"] for row in bins],
        [low for low, _ in intervals],
        [high for _, high in intervals],
        dots=True,
    )
