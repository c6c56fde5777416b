"""Figures of the layers of a network: grids of channels and of filters, statistics by depth."""

import math
import warnings
from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from cvtrain.explain.activations import LayerActivations
from cvtrain.explain.filters import FilterImages
from cvtrain.explain.layer_statistics import DepthStory
from cvtrain.system.text import truncate

_DPI = 120  # that of draw.save, so that a pixel of a grid is a pixel of the file
_GAP = 2
_GRID_HEIGHT = 4096  # pixels of a grid's images, whatever their number
_BACKGROUND, _DEAD_TILE = 255, 225
_DEAD, _CONSTANT = (200, 30, 30), (240, 140, 0)
_WITHIN, _ACROSS, _IMAGE = "#1f77b4", "#d95f02", "#2ca02c"
_MAX_NAMES = 60


def draw_activations(activations: LayerActivations, title: str = "") -> Figure:
    """All channels of a layer for one image, 16 a row; a row is labelled by its first channel.

    Each channel is divided by its own greatest value, so zero has one colour in all of them: the
    darkest where nothing is negative, else white between blue (negative) and red. The book's mean
    and deviation would draw a channel that is zero nearly everywhere as grey noise. Dead channels
    are crossed out, constant ones framed. A layer without a map is a grid of its units, divided by
    the greatest of them; a unit that is zero is nothing to mark.

    Args:
        activations: of one layer.
        title: what is above the name of the layer, such as the file of the image.
    """
    maps = activations.maps
    has_map = maps.ndim == 3
    maps = np.moveaxis(maps, -1, 0) if has_map else maps[:, None, None]
    greatest = np.abs(maps).max(axis=(1, 2) if has_map else None, keepdims=True)
    maps = maps / np.where(greatest > 0, greatest, 1)
    signed = maps.min() < 0
    colours = colormaps["RdBu_r" if signed else "viridis"]
    side = _tile_side(len(maps), 16, largest=80 if has_map else 24)
    tiles = []
    crossed = activations.dead & has_map
    # Resized before they are coloured: a mixture of two colours is no value's colour.
    for map_, dead, constant in zip(maps, crossed, activations.constant, strict=True):
        sized = _resized(map_.astype(np.float32), side)
        tile = np.rint(255 * colours((sized + 1) / 2 if signed else sized)[..., :3])
        tiles.append(_crossed(tile) if dead else _framed(tile) if constant else tile)
    size = "x".join(map(str, maps.shape[1:]))
    lines = [
        truncate(title, 60),
        truncate(activations.layer, 60),
        (f"{len(maps)} channels of {size}" if has_map else f"{len(maps)} units")
        + _counted(activations.dead, "dead (crossed out)" if has_map else "zero")
        + _counted(activations.constant, "constant (framed)"),
    ]
    key = "blue: negative, white: 0, red: " if signed else "dark: 0, yellow: "
    key += "maximum of the channel" if has_map else "maximum of the layer"
    return _grid_figure(tiles, 16, range(0, len(tiles), 16), lines, key)


def draw_filters(found: FilterImages) -> Figure:
    """The image of each filter, dead ones crossed out; a row is labelled by its first filter."""
    num_columns = 8 if len(found.images) <= 64 else 16
    side = _tile_side(len(found.images), num_columns, largest=112 if num_columns == 8 else 80)
    tiles = []
    for image, dead in zip(found.images, found.dead, strict=True):
        tile = _resized(image, side)
        tile = np.broadcast_to(tile if tile.ndim == 3 else tile[..., None], (*tile.shape[:2], 3))
        tiles.append(_crossed(tile) if dead else tile)
    lines = [
        truncate(found.layer, 60),
        f"{len(tiles)} filters, style {found.style}" + _counted(found.dead, "dead (crossed out)"),
    ]
    key = "input that activates each filter most"
    return _grid_figure(tiles, num_columns, found.filters[::num_columns].tolist(), lines, key)


def draw_depth(story: DepthStory, image: int | None = None, name: str = "") -> Figure:
    """Sparsity and similarity by depth: means and deviations over images, and one image's own line.

    Args:
        story: of all images.
        image: which of them has its own line; None for none.
        name: of this image.
    """
    places = np.arange(len(story.layers))
    width = float(np.clip(0.28 * len(places) + 2.5, 7, 24))
    figure = Figure(figsize=(width, 7.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _band(above, places, story.sparsity, "0.35", "all images")
    above.set(ylabel="share of zeros", ylim=(0, 1), title="sparsity")
    _band(below, places, story.within, _WITHIN, "within the class")
    _band(below, places, story.across, _ACROSS, "across classes")
    below.axhline(0, color="0.6", linewidth=1)
    below.set(ylabel="centred cosine similarity", title="similarity of pooled activations")
    if image is not None:
        style = {"color": _IMAGE, "linewidth": 1.2}
        above.plot(
            places, story.sparsity[:, image], **style, label=truncate(name, 60) or "this image"
        )
        below.plot(places, story.within[:, image], **style, label="this image, within its class")
        below.plot(
            places, story.across[:, image], "--", **style, label="this image, across classes"
        )
    step = -(-len(places) // _MAX_NAMES)
    names = [truncate(layer, 28) for layer in story.layers]
    below.set_xticks(places[::step], names[::step], rotation=90, fontsize=8)
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    return figure


def _band(axes: Axes, places: np.ndarray, values: np.ndarray, color: str, label: str) -> None:
    mean, deviation = values.mean(axis=1), values.std(axis=1)
    axes.plot(places, mean, ".-", color=color, linewidth=2, label=label)
    axes.fill_between(places, mean - deviation, mean + deviation, color=color, alpha=0.15, lw=0)


def _grid_figure(
    tiles: Sequence[np.ndarray],
    num_columns: int,
    row_labels: Sequence[int],
    lines: Sequence[str],
    key: str,
) -> Figure:
    """Tiles of one size (h, w, 3) in rows under a title, pixel for pixel."""
    mosaic = _mosaic(tiles, num_columns)
    height, width = mosaic.shape[:2]
    pitch = tiles[0].shape[0] + _GAP
    lines = [line for line in lines if line]
    left, top, margin = 52, 26 * len(lines) + 28, 10
    figure = Figure(dpi=_DPI)
    texts = [figure.text(0, 0, line, va="top", fontsize=10) for line in lines]
    texts.append(figure.text(0, 0, key, va="top", fontsize=7, color="0.4"))
    figure_width = left + max(width, _widest(texts)) + margin
    figure_height = top + height + margin
    figure.set_size_inches(figure_width / _DPI, figure_height / _DPI)
    for i, text in enumerate(texts):
        text.set_position((left / figure_width, 1 - (8 + 26 * i) / figure_height))
    box = (left, margin, width, height)
    scale = (figure_width, figure_height, figure_width, figure_height)
    axes = figure.add_axes([value / of for value, of in zip(box, scale, strict=True)])
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    axes.axis("off")
    every = -(-16 // pitch)  # a label is some 16 pixels high
    for row, label in list(enumerate(row_labels))[::every]:
        y = (row + 0.5) * pitch - _GAP / 2 - 0.5
        style = {"ha": "right", "va": "center", "fontsize": 7, "color": "0.4"}
        axes.text(-8, y, str(label), **style)
    return figure


def _widest(texts: Sequence[Text]) -> int:
    """Pixels that the longest of some texts takes, as they are drawn by `draw.save`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        for text in texts:
            text.set_parse_math(False)
        return math.ceil(max(text.get_window_extent().width for text in texts))


def _mosaic(tiles: Sequence[np.ndarray], num_columns: int) -> np.ndarray:
    height, width = (side + _GAP for side in tiles[0].shape[:2])
    num_rows = -(-len(tiles) // num_columns)
    mosaic = np.full((num_rows * height, num_columns * width, 3), _BACKGROUND, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // num_columns * height, i % num_columns * width
        mosaic[y : y + height - _GAP, x : x + width - _GAP] = tile
    return mosaic


def _tile_side(num_tiles: int, num_columns: int, *, largest: int) -> int:
    return int(np.clip(_GRID_HEIGHT // -(-num_tiles // num_columns), 20, largest))


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """The longer side becomes `side`: by whole factors up, by averages down."""
    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return pixels.repeat(int(factor), axis=0).repeat(int(factor), axis=1)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _crossed(tile: np.ndarray) -> np.ndarray:
    height, width = tile.shape[:2]
    crossed = np.full((height, width, 3), _DEAD_TILE, np.uint8)
    for ends in (((0, 0), (width - 1, height - 1)), ((0, height - 1), (width - 1, 0))):
        cv2.line(crossed, *ends, _DEAD, 1, cv2.LINE_AA)
    return crossed


def _framed(tile: np.ndarray) -> np.ndarray:
    framed = np.array(tile, np.uint8)
    for edge in (framed[:2], framed[-2:], framed[:, :2], framed[:, -2:]):
        edge[:] = _CONSTANT
    return framed


def _counted(marked: np.ndarray, what: str) -> str:
    return f", {marked.sum()} {what}" if marked.any() else ""
