"""`cvtrain calibrate`: below which confidence should a run answer "unknown"?"""

from typing import Any

from cvtrain.errors import ConfigError
from cvtrain.evaluation.calibration import (
    CONFIDENCE,
    COVERAGES,
    coverage_and_risk,
    coverage_to_come,
    risk_bounds,
    threshold_for_coverage,
    threshold_for_risk,
)
from cvtrain.runs.predictions import Predictions, read_predictions
from cvtrain.runs.run import Run
from cvtrain.steps.abstention import (
    ABSTENTION_FILE,
    FORMAT,
    UNKNOWN,
    apply_temperature,
    describe_abstention,
    describe_coverage,
    draw_reliability,
    measure_calibration,
    read_abstention,
)
from cvtrain.system.console import Console
from cvtrain.system.files import commit_json, disk_errors
from cvtrain.system.text import shell_quote

_COLUMNS = ("coverage", "95 % interval", "risk", "95 % interval")


def calibrate(
    run: Run, *, coverage: float | None, risk: float | None, off: bool, console: Console
) -> None:
    """Let a run answer "unknown" below a threshold of confidence; the model is not changed.

    Args:
        run: with a saved model and its predictions.
        coverage: share of images to answer, in 0..1.
        risk: share of errors to allow among the answers, in 0..1. At most one of the two; with
            neither the choices are shown.
        off: answer every image again.

    Raises:
        ConfigError: no share in 0..1, no threshold is known to keep the risk, or a class is called
            "unknown".
        RunError: the run is not usable.
    """
    run.require_model()
    target = _target(coverage, risk)
    names = run.require("class_names").class_names
    validation = read_predictions(run.path / "predictions-validation.csv", names)
    test = read_predictions(run.path / "predictions-test.csv", names)
    calibration = measure_calibration(validation, test)
    temperature = calibration["temperature"]
    console.result(
        f"calibration error of the test images: {calibration['error_before']:.4f}, "
        f"at temperature {temperature:.2f} {calibration['error_after']:.4f}"
    )
    parts = {
        "validation": apply_temperature(validation, temperature),
        "test": apply_temperature(test, temperature),
    }
    with run.locked():
        if off:
            with disk_errors(run.path):
                (run.path / ABSTENTION_FILE).unlink(missing_ok=True)
        elif target:
            threshold = _threshold(run, parts["validation"], target)
            record = {
                "format": FORMAT,
                "temperature": temperature,
                "threshold": threshold,
                "target": target,
                **{name: _at(part, threshold) for name, part in parts.items()},
            }
            commit_json(run.path / ABSTENTION_FILE, record)
            _show(record, console)
        else:
            _show_choices(run, parts, console)
        abstention = read_abstention(run)
        console.result(f"now: {describe_abstention(abstention)}")
        draw_reliability(run, test, parts["test"], abstention)
        run.update(calibration=calibration)


def _target(coverage: float | None, risk: float | None) -> dict[str, float]:
    given = {"coverage": coverage, "risk": risk}
    target = {name: share for name, share in given.items() if share is not None}
    for name, share in target.items():
        if not 0 < share <= 1:
            raise ConfigError(
                f"--{name} {share:g}: must be a share above 0 and at most 1",
                "For example: --coverage 0.9 or --risk 0.05",
            )
    return target


def _threshold(run: Run, validation: Predictions, target: dict[str, float]) -> float:
    if UNKNOWN in run.record.class_names:
        raise ConfigError(
            f"{run.path}: has a class '{UNKNOWN}', which is what abstaining answers",
            "Give the class another name and train again.",
        )
    labels, probabilities = validation.labels, validation.probabilities
    if "coverage" in target:
        return threshold_for_coverage(probabilities, target["coverage"])
    threshold = threshold_for_risk(labels, probabilities, target["risk"])
    if threshold is None:
        least = risk_bounds(labels, probabilities)[1].min()
        raise ConfigError(
            f"--risk {target['risk']:g}: no threshold is known to keep that; the least risk that "
            f"{len(labels):,} validation images can promise is {least:.4f}",
            "Allow a higher risk, choose a --coverage, or train with more validation images.",
        )
    return threshold


def _at(part: Predictions, threshold: float) -> dict[str, Any]:
    return coverage_and_risk(part.labels, part.probabilities, threshold)


def _show(record: dict[str, Any], console: Console) -> None:
    parts = {name: record[name] for name in ("validation", "test")}
    rows = [(name, f"{part['num_images']:,}", *_cells(part)) for name, part in parts.items()]
    console.table(("split", "images", *_COLUMNS), rows)
    console.result(describe_coverage(record["test"]))
    if record["threshold"] and "coverage" in record["target"]:
        chosen_by = record["validation"]
        low, high = coverage_to_come(chosen_by["num_answered"], chosen_by["num_images"])
        console.result(
            f"of other images like those of validation it answers {100 * low:.0f} % to "
            f"{100 * high:.0f} %, with {100 * CONFIDENCE:g} % confidence: the threshold was chosen "
            f"by {chosen_by['num_images']:,} images"
        )
    if target := record["target"].get("risk"):
        console.result(
            f"for images like those of validation at most {100 * target:g} % of the answers are "
            f"wrong, with {100 * CONFIDENCE:g} % confidence"
        )
        if record["test"]["num_answered"] and record["test"]["risk_interval"][0] > target:
            console.warn("the test images are beyond that: they are harder than the validation's")


def _show_choices(run: Run, parts: dict[str, Predictions], console: Console) -> None:
    validation, test = parts["validation"], parts["test"]
    thresholds, bounds = risk_bounds(validation.labels, validation.probabilities)
    rows = [
        (f"{asked:g}", f"{threshold:.4f}", f"{bound:.4f}", *_cells(_at(test, threshold)))
        for asked, threshold, bound in zip(COVERAGES, thresholds, bounds, strict=True)
    ]
    console.table(("--coverage", "threshold", "promised risk", *_COLUMNS), rows)
    console.result(
        "coverage and risk are those of the test images; the promise is by the validation images, "
        f"with {100 * CONFIDENCE:g} % confidence\n"
        f"choose: cvtrain calibrate {shell_quote(run.path)} --coverage 0.9, or --risk 0.05"
    )


def _cells(part: dict[str, Any]) -> tuple[str, ...]:
    low, high = part["coverage_interval"]
    answered = (f"{part['coverage']:.4f}", f"{low:.4f} to {high:.4f}")
    if part["risk"] is None:
        return (*answered, "-", "-")
    low, high = part["risk_interval"]
    return (*answered, f"{part['risk']:.4f}", f"{low:.4f} to {high:.4f}")
