"""`cvtrain learning-curve`: estimate how much more training images would help.

A head on the features of a frozen backbone is trained on growing shares of the training images. The
accuracy with more images is extrapolated from these measurements.
"""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cvtrain.config import Config
from cvtrain.data.splitting import choose
from cvtrain.evaluation.learning_curve_fit import (
    FARTHEST,
    FEWEST_SIZES,
    extrapolate,
    resampled_errors,
)
from cvtrain.evaluation.metrics import scores_against_guessing
from cvtrain.runs.run import Run, RunRequest
from cvtrain.steps.heads import cut_backbone
from cvtrain.steps.pooled_features import (
    check_class_sizes,
    copies,
    pooled_features,
    raise_if_stopped,
    samples,
)
from cvtrain.steps.session import RunSession, finished_run, open_session
from cvtrain.system.console import Console, duration
from cvtrain.system.files import append_checksum, commit_text, committed, read_checksummed
from cvtrain.system.text import csv_text
from cvtrain.training.linear_probe import held_out

Point = dict[str, Any]
"""The result of one subset, as in run.json: share, seed, number of images and accuracy."""

SPLITS = ("train", "validation", "test")
_CORRECT = "correct.npy"
_FOLDS = 3
_FEWEST_PER_CLASS = 2  # one for training while the other validates the penalty
_FACTORS = (1.25, 1.5, 2.0, 3.0, FARTHEST)
_TWICE = _FACTORS.index(2.0)
_FLAT = 0.01  # smaller gains are not worth the effort
_PERCENTILES = (2.5, 97.5)


def learning_curve(config: Config, request: RunRequest, console: Console) -> Run:
    """Measure the accuracy for growing shares of the training images, and extrapolate it.

    Args:
        config: the checked config; `extract_features.backbone` is the backbone.
        request: the run folder to write, or to continue.

    Returns:
        The finished run; it has no model.

    Raises:
        ConfigError, DataError, RunError: before anything is measured.
        ResourceError: memory or disk do not suffice; finished measurements are recorded.
        Stopped: on request; finished measurements are recorded, and `resume` continues.
    """
    if done := finished_run(request, console):
        return done
    with open_session("learning-curve", config, request, console) as session:
        index = session.dataset.index
        check_class_sizes(index, _FEWEST_PER_CLASS, needed_by="a learning curve")
        points, correct = measure(session)
        curve, forecast, verdict = conclude(points, correct, seed=config.seed)
        with session.watch.phase("draw"):
            write(session.run, points, curve, forecast)
        session.run.update(
            status="finished",
            curve=curve,
            forecast=forecast,
            verdict=verdict,
            seconds=session.watch.seconds,
        )
        show(session.run, console)
    return session.run


def measure(session: RunSession) -> tuple[list[Point], np.ndarray]:
    """Measure the accuracy for every subset, and record each result at once.

    The order is fixed, so a resumed run skips the subsets that it has recorded.

    Returns:
        The points, and (points, images) bool: which validation and test images are correct.
    """
    backbone, cut = cut_backbone(session, session.config)
    (store,) = pooled_features(session, session.dataset, backbone, [cut], SPLITS)
    features = {name: samples(store, session.dataset, name) for name in SPLITS}
    train_features, train_labels = features["train"]
    others, truth = (
        np.concatenate(pair) for pair in zip(features["validation"], features["test"], strict=True)
    )
    points: list[Point] = list(session.run.record.points)
    correct = [*_recorded(session.run, len(points))]
    if len(correct) < len(points):
        session.console.warning(f"{_CORRECT} is damaged; all subsets are measured again")
        points, correct = [], []
    wanted, groups = subsets(session), copies(session.dataset.index)
    with session.console.task("training heads") as on_progress:
        for number, (share, seed, places) in enumerate(wanted, 1):
            if number <= len(points):
                continue
            raise_if_stopped(session, len(points), "subsets")
            with session.watch.phase("classify"):
                subset = train_features[places], train_labels[places]
                probabilities = held_out(
                    subset,
                    others,
                    folds=_FOLDS,
                    seed=session.config.seed,
                    groups=groups and [groups[place] for place in places],
                    raise_if_stopped=partial(session.stop.raise_if_stopped, "training heads"),
                )
            correct.append(probabilities.argmax(axis=1) == truth)
            with committed(session.run.path / _CORRECT) as temporary:
                np.save(temporary, np.stack(correct))
                append_checksum(temporary)
            row = {"share": share, "seed": seed, "num_images": len(places)}
            points.append(row | {"accuracy": float(correct[-1].mean())})
            session.run.update(points=points, seconds=session.watch.seconds)
            on_progress(number, len(wanted))
    return points, np.stack(correct)


def subsets(session: RunSession) -> list[tuple[float, int, np.ndarray]]:
    """Share, seed and indices (n,) into the training images of every subset.

    A subset contains this share of the different images of each class, with all their copies. For
    the same seed, a larger share includes the smaller ones. The share 1 is the same for every seed,
    and occurs once.
    """
    index, section = session.dataset.index, session.config.learning_curve
    place_of = {path: i for i, path in enumerate(index.splits["train"].paths)}
    classes = [
        {image: [place_of[path] for path in paths] for image, paths in images.items()}
        for images in index.different_images().values()
    ]
    found = []
    for share in section.shares:
        for seed in range(
            session.config.seed, session.config.seed + (1 if share == 1 else section.seeds)
        ):
            chosen = []
            for places_of in classes:
                number = max(_FEWEST_PER_CLASS, round(share * len(places_of)))
                images = choose(list(places_of), number, seed)
                chosen += sorted(place for image in images for place in places_of[image])
            found.append((share, seed, np.array(chosen)))
    return found


def conclude(
    points: Sequence[Point], correct: np.ndarray, *, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Average the points into a curve, and extrapolate it.

    Args:
        points: the points of `measure`.
        correct: the array (points, images) of `measure`.
        seed: the random seed of the bootstrap.

    Returns:
        The rows of the curve, one for each share, with the mean over its subsets and a 95 %
        interval over other subsets and other images; the rows of the forecast; and a verdict:
        `flat`, `growing`, or `unknown` if there are too few sizes for a forecast.
    """
    shares = sorted({point["share"] for point in points})
    num_seeds = max(sum(point["share"] == share for point in points) for share in shares)
    by_share = [
        correct[[i for i, point in enumerate(points) if point["share"] == share]]
        for share in shares
    ]
    # The share 1 has one subset, which counts for every seed.
    cube = np.stack([np.broadcast_to(rows, (num_seeds, rows.shape[1])) for rows in by_share])
    errors = resampled_errors(cube, seed=seed)
    sizes = np.array(
        [next(p["num_images"] for p in points if p["share"] == share) for share in shares]
    )
    curve = [
        {"share": share, "num_images": int(size), **_estimate(rows.mean(), 1 - drawn)}
        for share, size, rows, drawn in zip(shares, sizes, cube, errors.T, strict=True)
    ]
    if len(np.unique(sizes)) < FEWEST_SIZES:
        return curve, [], "unknown"
    targets = sizes.max() * np.array([1.0, *_FACTORS])
    measured = 1 - cube.mean(axis=(1, 2))
    (expected,) = extrapolate(sizes, measured[None], targets)
    drawn = extrapolate(sizes, errors, targets)
    gains = drawn[:, :1] - drawn
    forecast = [
        {
            "factor": factor,
            "num_images": round(targets[i]),
            **_estimate(1 - expected[i], 1 - drawn[:, i]),
            "gain_interval": np.percentile(gains[:, i], _PERCENTILES).tolist(),
        }
        for i, factor in enumerate(_FACTORS, 1)
    ]
    is_flat = forecast[_TWICE]["gain_interval"][1] < _FLAT
    return curve, forecast, "flat" if is_flat else "growing"


def write(
    run: Run,
    points: Sequence[Point],
    curve: Sequence[dict[str, Any]],
    forecast: Sequence[dict[str, Any]],
) -> None:
    """Commit `learning_curve.csv`, one line for each subset, and the figure."""
    from cvtrain.plots import figures
    from cvtrain.plots.learning_curve import draw_learning_curve

    lines = [[*list(point.values())[:-1], f"{point['accuracy']:.9g}"] for point in points]
    commit_text(run.path / "learning_curve.csv", csv_text([list(points[0]), *lines]))
    figure = draw_learning_curve(points, curve, forecast)
    figures.save(figure, run.figures / "learning_curve.png")


def show(run: Run, console: Console) -> None:
    """Print the curve and the forecast."""
    curve, forecast = run.record.curve, run.record.forecast
    rows = [
        (
            f"{row['share']:.0%}",
            f"{row['num_images']:,}",
            f"{row['accuracy']:.4f}",
            "{:.4f} to {:.4f}".format(*row["accuracy_interval"]),
        )
        for row in curve
    ]
    console.table(("share", "images", "accuracy", "95 % interval"), rows)
    _warn_of_guessing(run, curve[-1]["accuracy"], console)
    if run.record.verdict == "unknown":
        console.print(
            f"\nno forecast: at least {FEWEST_SIZES} different sizes are needed "
            "(learning_curve.shares)"
        )
    elif run.record.verdict == "flat":
        gain = forecast[_TWICE]["gain_interval"][1]
        console.print(
            "\nflat: more data of this kind will hardly help; twice as much gains less than "
            f"{100 * gain:.1f} points. Another backbone, fine-tuning or cleaner labels may help "
            "more."
        )
    else:
        now = curve[-1]
        console.print(
            f"\nnow {now['accuracy']:.1%} ({_on_others(now)}), with {now['num_images']:,} images"
        )
        for row in forecast[_TWICE], forecast[-1]:
            least, most = (100 * gain for gain in row["gain_interval"])
            console.print(
                f"{'twice' if row['factor'] == 2 else 'four times'} the data: about {least:.1f} to "
                f"{most:.1f} points more ({_on_others(row)})"
            )
        console.print(
            "The gain is estimated on the same test images. On new images the accuracy itself is "
            "less certain, because they may be easier or harder."
        )
    console.print(
        f"\n{run.path}/ holds learning_curve.csv, run.json and figures/learning_curve.png "
        f"({duration(run.record.seconds['total'])})"
    )


def _warn_of_guessing(run: Run, accuracy: float, console: Console) -> None:
    """Warn if the head is not better than guessing even with all images."""
    counts = [list(run.record.data.counts[name].values()) for name in SPLITS[1:]]
    against = scores_against_guessing(np.sum(counts, axis=0).tolist(), accuracy)
    if not against.is_better:
        console.warning(
            "even with all images, the head is no better than guessing "
            f"({against.most_frequent:.4f}), because the features of this backbone do not separate "
            "the classes; compare backbones with cvtrain probe"
        )


def _on_others(row: Mapping[str, Any]) -> str:
    """The interval of the accuracy on other images."""
    low, high = row["accuracy_interval"]
    return f"on other images {low:.0%} to {high:.0%}"


def _estimate(accuracy: float, drawn: np.ndarray) -> dict[str, Any]:
    return {
        "accuracy": float(accuracy),
        "accuracy_interval": np.percentile(drawn, _PERCENTILES).tolist(),
    }


def _recorded(run: Run, num_points: int) -> np.ndarray:
    """The rows of `correct.npy` (committed before their points); no row if it is damaged."""
    content = read_checksummed(run.path / _CORRECT) if num_points else None
    return np.load(io.BytesIO(content))[:num_points] if content else np.empty((0, 0))
