"""`cvtrain probe`: measure a linear classifier on the features of each block of a backbone.

Early blocks are generic; late blocks are specialized to the pretraining classes. The measurement
shows where to cut the backbone, before a network is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cvtrain.backend import keras
from cvtrain.config import Config
from cvtrain.errors import ConfigError
from cvtrain.evaluation.metrics import scores_against_guessing
from cvtrain.features.store import FeatureStore
from cvtrain.models.blocks import blocks
from cvtrain.models.cost import cost_up_to
from cvtrain.runs.run import Run, RunRequest
from cvtrain.sections import Backbone
from cvtrain.steps.cached_features import open_backbone
from cvtrain.steps.dataset import Dataset, check
from cvtrain.steps.pooled_features import (
    check_class_sizes,
    copies,
    pooled_features,
    raise_if_stopped,
    samples,
)
from cvtrain.steps.session import RunSession, finished_run, open_session
from cvtrain.system.console import Console, duration
from cvtrain.system.files import commit_text
from cvtrain.system.text import csv_text, shell_quote
from cvtrain.training.linear_probe import Row, least_accuracy, linear_accuracy, recommend


def probe(config: Config, request: RunRequest, console: Console) -> Run:
    """Measure every block of the backbones of a config and recommend where to cut.

    Args:
        config: the checked config.
        request: the run folder to write, or to continue.

    Returns:
        The finished run; it has no model.

    Raises:
        ConfigError, DataError, RunError: before anything is measured.
        ResourceError: memory or disk do not suffice; finished measurements are recorded.
        Stopped: on request; finished measurements are recorded, and `resume` continues.
    """
    config = with_backbones(config)
    backbones = backbones_by_label(config.probe.backbones)
    if done := finished_run(request, console):
        return done
    with open_session("probe", config, request, console) as session:
        folds = config.probe.folds
        check_class_sizes(session.dataset.index, folds, needed_by=f"probe.folds={folds}")
        rows = measure(session, backbones)
        best, cut = recommend(rows)
        with session.watch.phase("draw"):
            write(session.run, rows, best, cut)
        session.run.update(
            status="finished", best=best, recommended=cut, seconds=session.watch.seconds
        )
        show(session.run, backbones[cut["backbone"]], request.config, console)
    return session.run


def with_backbones(config: Config) -> Config:
    """The config with all backbones and image sizes in the section `probe`."""
    backbones = config.probe.backbones or (config.extract_features.backbone,)
    sizes = config.probe.image_sizes or (config.data.image_size,)
    section = config.probe.model_copy(update={"backbones": backbones, "image_sizes": sizes})
    return config.model_copy(update={"probe": section})


def backbones_by_label(backbones: Sequence[Backbone]) -> dict[str, Backbone]:
    """The backbones by their names in tables: `mobilenet 0.25`, with the weights where needed.

    Raises:
        ConfigError: two backbones have the same name.
    """
    by_label = {}
    networks = [_network(backbone) for backbone in backbones]
    for backbone, network in zip(backbones, networks, strict=True):
        says_weights = backbone.weights == "none" or networks.count(network) > 1
        by_label[f"{network} ({Path(backbone.weights).name})" if says_weights else network] = (
            backbone
        )
    if len(by_label) < len(backbones):
        raise ConfigError(
            f"probe.backbones: must have different names; received {', '.join(networks)}",
            "List each backbone once, and give weights files different names.",
        )
    return by_label


def measure(session: RunSession, backbones: Mapping[str, Backbone]) -> list[Row]:
    """Measure every block of every backbone at every size, and record each result at once.

    The order is fixed, so a resumed run skips the blocks that it has recorded.
    """
    rows: list[Row] = list(session.run.record.blocks)
    num_done = len(rows)
    for image_size in session.config.probe.image_sizes:
        dataset = at_size(session, image_size)
        for name, section in backbones.items():
            backbone = open_backbone(
                section, image_size=image_size, seed=session.config.seed, dataset=dataset
            )
            found = describe(backbone, name)
            fresh, num_done = found[num_done:], max(0, num_done - len(found))
            if fresh:
                stores = pooled_features(
                    session, dataset, backbone, [row["layer"] for row in fresh]
                )
                classify(session, dataset, fresh, stores, rows)
    return rows


def at_size(session: RunSession, image_size: tuple[int, int]) -> Dataset:
    """The same images in the same splits, decoded to another size."""
    dataset, decoder = session.dataset, session.dataset.pixels.decoder
    if decoder.size == image_size:
        return dataset
    with session.watch.phase("data"):
        pixels, _ = check(
            dataset.index, replace(decoder, size=image_size), session.stop, session.console
        )
    return replace(dataset, pixels=pixels)


def describe(backbone: keras.Model, name: str) -> list[Row]:
    """The last layer, output shape and cost of each block of a backbone, from the input up."""
    rows = []
    for block in blocks(backbone):
        height, width, channels = backbone.get_layer(block.layer).output.shape[1:]
        rows.append(
            {
                "backbone": name,
                "image_size": list(backbone.input.shape[1:3]),
                "block": block.name,
                "layer": block.layer,
                "map_size": [height, width],
                "channels": channels,
                "multiply_adds": cost_up_to(backbone, block.layer),
            }
        )
    return rows


def classify(
    session: RunSession,
    dataset: Dataset,
    found: Sequence[Row],
    stores: Sequence[FeatureStore],
    rows: list[Row],
) -> None:
    """Add the accuracies to the rows of one backbone, and record each result at once."""
    with session.console.task("classifying") as on_progress:
        for number, (row, store) in enumerate(zip(found, stores, strict=True), 1):
            raise_if_stopped(session, len(rows), "blocks")
            with session.watch.phase("classify"):
                accuracy = linear_accuracy(
                    samples(store, dataset, "train"),
                    samples(store, dataset, "validation"),
                    folds=session.config.probe.folds,
                    seed=session.config.seed,
                    groups=copies(dataset.index),
                    raise_if_stopped=partial(session.stop.raise_if_stopped, "classifying"),
                )
            rows.append(row | accuracy)
            session.run.update(blocks=rows, seconds=session.watch.seconds)
            on_progress(number, len(found))


def write(run: Run, rows: Sequence[Row], best: Row, cut: Row) -> None:
    """Commit `probe.csv`, one line for each block, and its figure."""
    from cvtrain.plots import figures

    columns = [*rows[0], "recommended"]
    lines = [[*map(_cell, row.values()), int(row == cut)] for row in rows]
    commit_text(run.path / "probe.csv", csv_text([columns, *lines]))
    figures.save(figures.draw_probe(rows, cut, least_accuracy(best)), run.figures / "probe.png")


def show(run: Run, backbone: Backbone, config: Path | None, console: Console) -> None:
    """Print the blocks, the recommended cut and the keys for the config."""
    import yaml

    best, cut = run.record.best, run.record.recommended
    columns = ("block", "backbone", "image", "map", "channels", "M multiply-adds", "accuracy", "+-")
    rows = run.record.blocks
    console.table(
        (*columns, "validation", ""), [(*_words(row), "<- cut here" * (row == cut)) for row in rows]
    )
    console.print(f"\nbest: {_in_words(best)}")
    if cut == best:
        console.print(
            "recommended cut: the same block; no cheaper one is within one standard error of it"
        )
    else:
        spared = 1 - cut["multiply_adds"] / best["multiply_adds"]
        console.print(
            f"recommended cut: {_in_words(cut)}; the cheapest block within one standard error "
            f"of the best, with {spared:.0%} less computation"
        )
    _warn_of_guessing(run, best["accuracy"], console)
    last = [row for row in rows if _series(row) == _series(cut)][-1]
    if last["accuracy"] < least_accuracy(best):
        console.print(
            f"Later blocks are less accurate ({last['accuracy']:.4f} after the last), because they "
            "are specialized to the pretraining classes."
        )
    settings = {
        "data": {"image_size": cut["image_size"]},
        "extract_features": {
            "backbone": backbone.model_dump(exclude_defaults=True) | {"cut": cut["layer"]}
        },
    }
    text = yaml.safe_dump(settings, default_flow_style=None, sort_keys=False, width=1000)
    console.print(f"\nWrite into the config:\n{text}")
    console.print(
        f"{run.path}/ holds probe.csv, run.json and figures/probe.png "
        f"({duration(run.record.seconds['total'])})"
    )
    console.print(f"Next:\n  train on these features   {_next_command(config)}")


def _warn_of_guessing(run: Run, accuracy: float, console: Console) -> None:
    """Warn if even the best block is not better than guessing."""
    against = scores_against_guessing([*run.record.data.counts["train"].values()], accuracy)
    if not against.is_better:
        console.warning(
            f"no block is better than guessing ({against.most_frequent:.4f}): "
            "use another backbone, or pretrained weights"
        )


def _next_command(config: Path | None) -> str:
    """The next command; the default config.yaml is not named."""
    if config == Path("config.yaml"):
        return "cvtrain extract-features"
    return f"cvtrain extract-features {shell_quote(config) if config else 'YOUR_CONFIG'}"


def _network(backbone: Backbone) -> str:
    """`vgg16`, `mobilenet 0.25`, or the name of the run folder."""
    if backbone.name is None:
        return Path(backbone.weights).name
    return backbone.name if backbone.alpha is None else f"{backbone.name} {backbone.alpha}"


def _words(row: Row) -> tuple[str, ...]:
    return (
        row["block"],
        row["backbone"],
        _size(row["image_size"]),
        _size(row["map_size"]),
        str(row["channels"]),
        f"{row['multiply_adds'] / 1e6:,.1f}",
        f"{row['accuracy']:.4f}",
        f"{row['standard_error']:.4f}",
        f"{row['validation_accuracy']:.4f}",
    )


def _in_words(row: Row) -> str:
    return (
        f"{row['block']} of {row['backbone']} at {_size(row['image_size'])}, "
        f"accuracy {row['accuracy']:.4f} +- {row['standard_error']:.4f}, "
        f"{row['multiply_adds'] / 1e6:,.1f} million multiply-adds"
    )


def _series(row: Row) -> tuple[Any, Any]:
    return row["backbone"], row["image_size"]


def _size(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.9g}"
    return _size(value) if isinstance(value, list) else value
