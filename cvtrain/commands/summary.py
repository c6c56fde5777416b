"""`cvtrain summary`: a network of a config layer by layer, before there is an image."""

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
_FEW = 24  # layers that are shown one by one unless blocks are asked for


@dataclass(frozen=True)
class LayerRow:
    """A layer, or all layers of a block, whose last one tells what it sees.

    Attributes:
        name: of the layer or block.
        window: of a convolution or pooling, in words; "" for other layers.
        output: shape of the last output, without the batch.
        parameters: of all its layers; `trained` of them in layers that are trained.
        multiply_adds: per image.
        fields: rows and columns of the input that a cell sees; None where that is the whole image.
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
    """Print what each layer of a stage's network makes of an image, costs and sees.

    Args:
        config: its data need not be there.
        stage: one of `MODEL_COMMANDS`.
        num_classes: None: those of `data.classes`, or else 10.
        every_layer: of a large backbone every layer, not a line for each block.

    Raises:
        ConfigError: the network cannot be built.
        RunError: `extract_features.backbone.weights` names a run that cannot be used.
    """
    if num_classes is None:
        num_classes = len(config.data.classes or ()) or 10
        console.remark(f"for {num_classes} classes; --classes for another number")

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
    base = _backbone(config)
    cut = find_cut(base, section.backbone.cut)
    head = section.head
    if head.name != "dense":
        head = Head(pooling=head.pooling, dense=(), dropout=head.dropout)
    model = attach_dense(base, cut, head, num_classes=num_classes)
    if stage == "finetune":
        step = config.finetune or FineTune()
        return model, set(unfreeze(model, step).layers)
    frozen = {layer.name for layer in base.layers}
    return model, {layer.name for layer in model.layers} - frozen


def _backbone(config: Config) -> keras.Model:
    """The backbone without its weights, which tell nothing of shapes; or the model of a run."""
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
    """`3 x 3 / 2 same`: window, strides where they are not 1, dilation, padding."""
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
    """One row for each block of the backbone, then the layers of the head as they are."""
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
        # Of a small map all cells may, more than once round.
        sides = zip(row.fields, row.output, strict=False)
        border = _times([min(field.border, side or field.border) for field, side in sides])
    parameters = f"{row.parameters:,}" if row.parameters else ""
    costs = f"{row.multiply_adds:,}" if row.multiply_adds else ""
    name = f"{row.name} (frozen)" if row.parameters and not row.trained else row.name
    return (name, row.window, _times(row.output), parameters, costs, sees, step, border)


def _times(numbers: Iterable[object]) -> str:
    """`3` for a square window or one number, `3 x 5` for others; shapes as they are."""
    said = [str(number) for number in numbers]
    return " x ".join(said[:1] if len(said) == 2 and len(set(said)) == 1 else said)


def _print_totals(
    config: Config, stage: str, model: keras.Model, rows: list[LayerRow], console: Console
) -> None:
    total = sum(row.parameters for row in rows)
    trained = sum(row.trained for row in rows)
    values = sum(math.prod(layer.output.shape[1:]) for layer in model.layers)
    section = getattr(config, stage.replace("-", "_")) or FineTune()
    batch = 4 * values * section.batch_size / 1e6
    console.result(
        f"{total:,} parameters, {trained:,} in layers that are trained; "
        f"{sum(row.multiply_adds for row in rows):,} multiply-adds an image; "
        f"{batch:,.0f} MB for all outputs of a batch of {section.batch_size} in float32"
    )
    console.remark(
        "sees: pixels of the image that one cell sees, its receptive field. step: pixels from one "
        "cell to the next. border: cells at an edge that see padding."
    )
