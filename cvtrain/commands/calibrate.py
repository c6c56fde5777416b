"""`cvtrain calibrate`: set a confidence below which a run answers "unknown"."""

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
    """Set the threshold of a run; the model is not changed.

    Args:
        run: a run with a saved model and its predictions.
        coverage: the share of images to answer, in 0..1.
        risk: the largest share of errors among the answers, in 0..1. Without `coverage` and `risk`,
            the possible thresholds are shown.
        off: whether to remove the threshold.

    Raises:
        ConfigError: a share is not in 0..1, no threshold guarantees the risk, or a class has the
            name "unknown".
        RunError: the run cannot be used.
    """
    run.require_model()
    target = _target(coverage, risk)
    names = run.require("class_names").class_names
    validation = read_predictions(run.path / "predictions-validation.csv", names)
    test = read_predictions(run.path / "predictions-test.csv", names)
    calibration = measure_calibration(validation, test)
    temperature = calibration["temperature"]
    console.print(
        f"calibration error of the test images: {calibration['error_before']:.4f}, and "
        f"{calibration['error_after']:.4f} with temperature {temperature:.2f}"
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
        console.print(f"now: {describe_abstention(abstention)}")
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
            f"{run.path}: has a class '{UNKNOWN}', which is the answer below the threshold",
            "Rename the class and train again.",
        )
    labels, probabilities = validation.labels, validation.probabilities
    if "coverage" in target:
        return threshold_for_coverage(probabilities, target["coverage"])
    threshold = threshold_for_risk(labels, probabilities, target["risk"])
    if threshold is None:
        least = risk_bounds(labels, probabilities)[1].min()
        raise ConfigError(
            f"--risk {target['risk']:g}: no threshold guarantees this risk; the smallest risk that "
            f"{len(labels):,} validation images can guarantee is {least:.4f}",
            "Allow a higher risk, choose a --coverage, or train with more validation images.",
        )
    return threshold


def _at(part: Predictions, threshold: float) -> dict[str, Any]:
    return coverage_and_risk(part.labels, part.probabilities, threshold)


def _show(record: dict[str, Any], console: Console) -> None:
    parts = {name: record[name] for name in ("validation", "test")}
    rows = [(name, f"{part['num_images']:,}", *_cells(part)) for name, part in parts.items()]
    console.table(("split", "images", *_COLUMNS), rows)
    console.print(describe_coverage(record["test"]))
    if record["threshold"] and "coverage" in record["target"]:
        chosen_by = record["validation"]
        low, high = coverage_to_come(chosen_by["num_answered"], chosen_by["num_images"])
        console.print(
            f"the coverage of new, similar images will be {100 * low:.0f} % to {100 * high:.0f} % "
            f"with {100 * CONFIDENCE:g} % confidence, because the threshold was chosen by "
            f"{chosen_by['num_images']:,} images"
        )
    if target := record["target"].get("risk"):
        console.print(
            f"for images similar to the validation images, at most {100 * target:g} % of the "
            f"answers are wrong, with {100 * CONFIDENCE:g} % confidence"
        )
        if record["test"]["num_answered"] and record["test"]["risk_interval"][0] > target:
            console.warning(
                "the risk of the test images is higher: they are harder than the validation images"
            )


def _show_choices(run: Run, parts: dict[str, Predictions], console: Console) -> None:
    validation, test = parts["validation"], parts["test"]
    thresholds, bounds = risk_bounds(validation.labels, validation.probabilities)
    rows = [
        (f"{coverage:g}", f"{threshold:.4f}", f"{bound:.4f}", *_cells(_at(test, threshold)))
        for coverage, threshold, bound in zip(COVERAGES, thresholds, bounds, strict=True)
    ]
    console.table(("--coverage", "threshold", "risk bound", *_COLUMNS), rows)
    console.print(
        "coverage and risk are those of the test images; the risk bound is guaranteed by the "
        f"validation images, with {100 * CONFIDENCE:g} % confidence\n"
        f"to set one: cvtrain calibrate {shell_quote(run.path)} --coverage 0.9, or --risk 0.05"
    )


def _cells(part: dict[str, Any]) -> tuple[str, ...]:
    low, high = part["coverage_interval"]
    answered = (f"{part['coverage']:.4f}", f"{low:.4f} to {high:.4f}")
    if part["risk"] is None:
        return (*answered, "-", "-")
    low, high = part["risk_interval"]
    return (*answered, f"{part['risk']:.4f}", f"{low:.4f} to {high:.4f}")
