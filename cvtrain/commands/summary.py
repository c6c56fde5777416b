"""`cvtrain summary`: show the layers of a network of a config; no image is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cvtrain import backend
from cvtrain.backend import keras
from cvtrain.config import Config
from cvtrain.models.backbones import build_backbone
from cvtrain.models.blocks import blocks, find_cut
from cvtrain.models.cost import multiply_adds
from cvtrain.models.heads import attach_dense
from cvtrain.models.receptive_field import ReceptiveField, receptive_fields
from cvtrain.models.transfer import unfreeze
from cvtrain.runs.run import Run
from cvtrain.sections import FineTune, Head
from cvtrain.steps.cached_features import open_model
from cvtrain.steps.network import build_network
from cvtrain.system.console import Console

_COLUMNS = ("layer", "window", "output", "parameters", "multiply-adds", "sees", "step", "border")
_FEW = 24  # the number of layers up to which each one is shown


@dataclass(frozen=True)
class LayerRow:
    """A row of the table: a layer, or all layers of a block.

    Attributes:
        name: the name of the layer or block.
        window: the window of a convolution or pooling, such as `3 x 3 / 2 same`; "" otherwise.
        output: the shape of the last output, without the batch.
        parameters: the number of parameters.
        trained: the number of parameters in layers that are trained.
        multiply_adds: the multiply-adds for one image.
        fields: the receptive fields of the last layer along rows and columns; None if a cell sees
            the whole image.
    """

    name: str
    window: str
    output: tuple[int, ...]
    parameters: int
    trained: int
    multiply_adds: int
    fields: tuple[ReceptiveField, ReceptiveField] | None


def summary(
    config: Config, stage: str, *, num_classes: int | None, every_layer: bool, console: Console
) -> list[LayerRow]:
    """Print the shape, cost and receptive field of each layer of the network of a stage.

    Args:
        config: the checked config; its images need not exist.
        stage: one of `MODEL_COMMANDS`.
        num_classes: the number of classes (default: that of `data.classes`, or 10).
        every_layer: whether to show every layer of a large network instead of its blocks.

    Raises:
        ConfigError: the network cannot be built.
        RunError: `extract_features.backbone.weights` names a run that cannot be used.
    """
    if num_classes is None:
        num_classes = len(config.data.classes or ()) or 10
        console.info(f"The network has {num_classes} classes; --classes changes the number.")

    with backend.memory_errors():
        model, trained = _network(config, stage, num_classes)
    rows = list(_layers(model, trained))
    if not every_layer and len(rows) > _FEW:
        rows = list(_by_block(model, rows))
    console.table(_COLUMNS, [_cells(row) for row in rows])
    _print_totals(config, stage, model, rows, console)
    return rows


def _network(config: Config, stage: str, num_classes: int) -> tuple[keras.Model, set[str]]:
    """The network that a stage trains, and the names of the layers that it trains."""
    backend.set_up(seed=config.seed, device="cpu")
    if stage == "fit":
        model = build_network(config, num_classes, "float32")
        return model, {layer.name for layer in model.layers if layer.trainable}

    section = config.extract_features
    backbone = _backbone(config)
    cut = find_cut(backbone, section.backbone.cut)
    head = section.head
    if head.name != "dense":
        head = Head(pooling=head.pooling, dense=(), dropout=head.dropout)
    model = attach_dense(backbone, cut, head, num_classes=num_classes)
    if stage == "finetune":
        step = config.finetune or FineTune()
        return model, set(unfreeze(model, step).layers)
    frozen = {layer.name for layer in backbone.layers}
    return model, {layer.name for layer in model.layers} - frozen


def _backbone(config: Config) -> keras.Model:
    """The backbone without weights, which are not needed for shapes, or the model of a run."""
    backbone, size = config.extract_features.backbone, config.data.image_size
    if backbone.name is None:
        return open_model(Run.open(Path(backbone.weights)), image_size=size)
    return build_backbone(backbone.name, image_size=size, weights=None, alpha=backbone.alpha)


def _layers(model: keras.Model, trained: set[str]) -> Iterator[LayerRow]:
    costs = multiply_adds(model)
    rows, columns = (receptive_fields(model, axis) for axis in (1, 2))
    for layer in model.layers:
        place = id(layer.output)
        is_map = place in rows and place in columns
        yield LayerRow(
            layer.name,
            _window(layer),
            tuple(layer.output.shape[1:]),
            layer.count_params(),
            layer.count_params() if layer.name in trained else 0,
            costs[layer.name],
            (rows[place], columns[place]) if is_map else None,
        )


def _window(layer: keras.Layer) -> str:
    """The window, strides, dilation and padding, such as `3 x 3 / 2 same`."""
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window is None:
        return ""
    words = [_times(window)]
    if set(layer.strides) != {1}:
        words.append(f"/ {layer.strides[0]}")
    if set(getattr(layer, "dilation_rate", (1,))) != {1}:
        words.append(f"dilated {layer.dilation_rate[0]}")
    return " ".join([*words, layer.padding])


def _by_block(model: keras.Model, rows: list[LayerRow]) -> Iterator[LayerRow]:
    """One row for each block of the backbone, and one for each layer of the head."""
    ends = {block.layer: block.name for block in blocks(model)}
    part: list[LayerRow] = []
    for row in rows:
        part.append(row)
        if row.name in ends:
            yield LayerRow(
                ends[row.name],
                "",
                row.output,
                sum(each.parameters for each in part),
                sum(each.trained for each in part),
                sum(each.multiply_adds for each in part),
                row.fields,
            )
            part = []
    yield from part


def _cells(row: LayerRow) -> tuple[str, ...]:
    sees = step = border = ""
    if row.fields is not None:
        sees = _times([field.size for field in row.fields])
        step = _times([f"{field.step:g}" for field in row.fields])
        # The border of a small map may be larger than the map.
        sides = zip(row.fields, row.output, strict=False)
        border = _times([min(field.border, side or field.border) for field, side in sides])
    parameters = f"{row.parameters:,}" if row.parameters else ""
    costs = f"{row.multiply_adds:,}" if row.multiply_adds else ""
    name = f"{row.name} (frozen)" if row.parameters and not row.trained else row.name
    return (name, row.window, _times(row.output), parameters, costs, sees, step, border)


def _times(numbers: Iterable[object]) -> str:
    """`3` for one number or two equal ones, otherwise `3 x 5`."""
    texts = [str(number) for number in numbers]
    return " x ".join(texts[:1] if len(texts) == 2 and len(set(texts)) == 1 else texts)


def _print_totals(
    config: Config, stage: str, model: keras.Model, rows: list[LayerRow], console: Console
) -> None:
    total = sum(row.parameters for row in rows)
    trained = sum(row.trained for row in rows)
    values = sum(math.prod(layer.output.shape[1:]) for layer in model.layers)
    section = getattr(config, stage.replace("-", "_")) or FineTune()
    batch = 4 * values * section.batch_size / 1e6
    console.print(
        f"{total:,} parameters, {trained:,} in layers that are trained; "
        f"{sum(row.multiply_adds for row in rows):,} multiply-adds per image; "
        f"{batch:,.0f} MB for all outputs of a batch of {section.batch_size} in float32"
    )
    console.info(
        "sees: the receptive field of a cell, in pixels of the image. step: the distance of two "
        "cells, in pixels. border: the number of cells at an edge that see padding."
    )
