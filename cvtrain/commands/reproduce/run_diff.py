"""Compare two runs of one config: weights of each layer, epochs, metrics and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvtrain.backend import keras
from cvtrain.reports.run_files import read_history
from cvtrain.runs.predictions import Predictions, read_predictions
from cvtrain.runs.run import Run
from cvtrain.runs.settings import flat_settings
from cvtrain.steps.inference import load_saved

_CLOCKS = {"images_per_second", "seconds", "val_seconds"}
_SPLITS = ("train", "validation", "test")


def compare_runs(first: Run, again: Run) -> dict[str, Any]:
    """Compare the results of two finished runs.

    Returns:
        `identical`: whether all is equal, bit for bit. `weights`: `layers` that differ, with the
        largest difference of a weight, or None if their shapes differ. `history`: the number of
        `epochs` of both, and the largest difference in each column, without the times. `metrics`:
        both values of each key that differs. `predictions`, for each split: `num_images` of both
        runs, `num_others` of only one, `num_changed` predicted classes, and the
        `largest_difference` of a probability. Each part has its own `identical`.

    Raises:
        RunError: a file is missing or damaged.
    """
    found = {
        "weights": compare_weights(load_saved(first), load_saved(again)),
        "history": compare_histories(read_history(first), read_history(again)),
        "metrics": compare_metrics(first.content["metrics"], again.content["metrics"]),
    }
    parts = {name: each for name in _SPLITS if (each := _both_predictions(first, again, name))}
    predictions = {name: compare_predictions(*each) for name, each in parts.items()}
    is_identical = all(each["identical"] for each in (*found.values(), *predictions.values()))
    return {"identical": is_identical, **found, "predictions": predictions}


def compare_weights(first: keras.Model, again: keras.Model) -> dict[str, Any]:
    """The layers whose weights differ in any bit."""
    others = {layer.name: layer.get_weights() for layer in again.layers}
    layers = {}
    for layer in first.layers:
        ours, theirs = layer.get_weights(), others.get(layer.name, [])
        if [_bytes(each) for each in ours] != [_bytes(each) for each in theirs]:
            layers[layer.name] = _largest_difference(ours, theirs)
    return {"identical": not layers, "layers": layers}


def compare_histories(
    first: Mapping[str, Sequence[float]], again: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """The columns of two histories that differ in a common epoch, without the times."""
    epochs = [len(each.get("epoch", ())) for each in (first, again)]
    columns = {}
    for name in sorted((first.keys() & again.keys()) - _CLOCKS):
        ours, theirs = (each[name][: min(epochs)] for each in (first, again))
        if ours != theirs:
            columns[name] = _largest_difference([np.array(ours)], [np.array(theirs)])
    is_identical = not columns and epochs[0] == epochs[1]
    return {"identical": is_identical, "epochs": epochs, "columns": columns}


def compare_metrics(first: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of two `metrics` with different values, and both values as text."""
    ours, theirs = flat_settings(first), flat_settings(again)
    keys = [*ours, *(key for key in theirs if key not in ours)]
    differing = {
        key: [ours.get(key), theirs.get(key)] for key in keys if ours.get(key) != theirs.get(key)
    }
    return {"identical": not differing, "values": differing}


def compare_predictions(first: Predictions, again: Predictions) -> dict[str, Any]:
    """Compare the predictions for the images of both runs, which have the same names."""
    places = {name: i for i, name in enumerate(again.files)}
    ours = [i for i, name in enumerate(first.files) if name in places]
    theirs = [places[first.files[i]] for i in ours]
    a, b = first.probabilities[ours], again.probabilities[theirs]
    num_others = len(first.files) + len(again.files) - 2 * len(ours)
    return {
        "identical": not num_others and bool(np.array_equal(a, b)),
        "num_images": len(ours),
        "num_others": num_others,
        "num_changed": int(np.sum(first.predicted[ours] != again.predicted[theirs])),
        "largest_difference": _largest_difference([a], [b]),
    }


def rows_of(comparison: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The rows of the printed table: what, whether it is reproduced, the largest difference."""
    layers = comparison["weights"]["layers"]
    history, metrics = comparison["history"], comparison["metrics"]
    rows = [("weights", _verdict(comparison["weights"], f"layers that differ: {len(layers)}"), "")]
    rows += [(f"  {name}", "differs", _shown(largest)) for name, largest in layers.items()]
    epochs = " and ".join(map(str, sorted(set(history["epochs"]))))
    rows.append((f"history, {epochs} epochs", _verdict(history, "differs"), ""))
    rows += [(f"  {name}", "differs", _shown(each)) for name, each in history["columns"].items()]
    rows.append(("metrics", _verdict(metrics, f"values that differ: {len(metrics['values'])}"), ""))
    for split, found in comparison["predictions"].items():
        changed = f"changed predictions: {found['num_changed']:,}"
        if found["num_others"]:
            changed += f", images in one run only: {found['num_others']:,}"
        what = f"predictions, {found['num_images']:,} {split} images"
        rows.append((what, _verdict(found, changed), _shown(found["largest_difference"])))
    return rows


def _both_predictions(first: Run, again: Run, split: str) -> tuple[Predictions, Predictions] | None:
    """The predictions of both runs for a split; None if one of them has none."""
    paths = [run.path / f"predictions-{split}.csv" for run in (first, again)]
    if not all(path.exists() for path in paths):
        return None
    ours, theirs = (read_predictions(path, first.record.class_names) for path in paths)
    return ours, theirs


def _largest_difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float | None:
    """The largest absolute difference of two lists of arrays; None if their shapes differ."""
    if [each.shape for each in ours] != [each.shape for each in theirs]:
        return None
    pairs = zip(ours, theirs, strict=True)
    differences = [np.abs(a.astype(np.float64) - b.astype(np.float64)) for a, b in pairs]
    return max((float(each.max()) for each in differences if each.size), default=0.0)


def _bytes(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()


def _verdict(found: Mapping[str, Any], otherwise: str) -> str:
    return "yes" if found["identical"] else otherwise


def _shown(difference: float | None) -> str:
    return "another shape" if difference is None else f"{difference:.3g}"
