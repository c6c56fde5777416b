"""Temperature and threshold of a run: fitted at its end, used by predictions."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from cvtrain.data.index import Split
from cvtrain.errors import RunError
from cvtrain.evaluation.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    Abstention,
    coverage_and_risk,
    fit_temperature,
    with_temperature,
)
from cvtrain.evaluation.metrics import calibration_error
from cvtrain.runs.predictions import Predictions
from cvtrain.runs.run import Run
from cvtrain.system.text import escape, shell_quote

FORMAT = 1
UNKNOWN = "unknown"
"""The answer below the threshold."""
ABSTENTION_FILE = "abstention.json"


def record_calibration(
    run: Run, parts: Mapping[str, Split], probabilities: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Fit the temperature of a run and draw `figures/calibration.png`.

    Args:
        parts: the samples of at least validation and test.
        probabilities: (n, classes) of each part.

    Returns:
        The part `calibration` of run.json: `temperature`, fitted on the validation images, and the
        calibration error of the test images without and with it, `error_before` and `error_after`.
    """
    validation, test = (
        Predictions(parts[name].paths, parts[name].labels, probabilities[name])
        for name in ("validation", "test")
    )
    calibration = measure_calibration(validation, test)
    draw_reliability(run, test, apply_temperature(test, calibration["temperature"]), None)
    return calibration


def read_abstention(run: Run) -> Abstention | None:
    """The rule for answers that `calibrate` has set; None if every image is answered.

    Raises:
        RunError: its abstention.json is damaged or of a later version.
    """
    path = run.path / ABSTENTION_FILE
    if not path.exists():
        return None
    record = run.read_json(ABSTENTION_FILE)
    fields = record if isinstance(record, dict) else {}
    temperature, threshold = fields.get("temperature"), fields.get("threshold")
    if (
        fields.get("format") == FORMAT
        and isinstance(temperature, float | int)
        and isinstance(threshold, float | int)
        and LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE
        and 0 <= threshold <= 1
    ):
        return Abstention(temperature, threshold)
    raise RunError(
        f"{escape(path)}: damaged, or written by another version of cvtrain",
        f"Set it anew: cvtrain calibrate {shell_quote(run.path)} --coverage 0.9, or --off",
    )


def measure_abstention(
    run: Run, labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, dict[str, Any]]:
    """The field `abstention` of metrics.json; empty if the run answers every image.

    Args:
        labels: (n,) true class indices.
        probabilities: (n, classes) of the model.

    Returns:
        `abstention`: the temperature, the threshold and the result of `coverage_and_risk`.
    """
    abstention = read_abstention(run)
    if abstention is None:
        return {}
    tempered = with_temperature(probabilities, abstention.temperature)
    result = coverage_and_risk(labels, tempered, abstention.threshold)
    return {"abstention": asdict(abstention) | result}


def describe_abstention(abstention: Abstention | None) -> str:
    """The rule as text for the user."""
    if abstention is None:
        return "every image is answered"
    if abstention.threshold == 0:
        return f"every image is answered, at temperature {abstention.temperature:.2f}"
    return (
        f"'{UNKNOWN}' below a confidence of {abstention.threshold:.4f} "
        f"at temperature {abstention.temperature:.2f}"
    )


def describe_coverage(part: dict[str, Any]) -> str:
    """The result of `calibration.coverage_and_risk` as text for the user."""
    answered, wrong = (
        round(100 * part[key] / part["num_images"]) for key in ("num_answered", "num_wrong")
    )
    return (
        f"of 100 images like these it answers about {answered}, "
        f"and about {wrong} of those answers {'is' if wrong == 1 else 'are'} wrong"
    )


def measure_calibration(validation: Predictions, test: Predictions) -> dict[str, float]:
    """Fit a temperature on `validation`; return it and the calibration errors of `test`."""
    temperature = fit_temperature(validation.labels, validation.probabilities)
    tempered = apply_temperature(test, temperature)
    return {
        "temperature": temperature,
        "error_before": calibration_error(test.labels, test.probabilities),
        "error_after": calibration_error(test.labels, tempered.probabilities),
    }


def apply_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """The predictions with probabilities at another temperature."""
    tempered = with_temperature(predictions.probabilities, temperature)
    return replace(predictions, probabilities=tempered)


def draw_reliability(
    run: Run, test: Predictions, tempered: Predictions, now: Abstention | None
) -> None:
    """Draw `figures/calibration.png`: accuracy by confidence, risk by coverage.

    Args:
        run: the run in which the figure is saved.
        test, tempered: predictions of the test images, without and with temperature.
        now: the current rule for answers; None if every image is answered.
    """
    from cvtrain.plots import figures
    from cvtrain.plots.calibration import calibration_panels

    threshold = now.threshold if now else None
    before, after = test.probabilities, tempered.probabilities
    panels = calibration_panels(test.labels, before, after, threshold=threshold)
    figures.save(figures.draw_panels(panels), run.figures / "calibration.png")
