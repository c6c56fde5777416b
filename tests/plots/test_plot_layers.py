"""Grids show every channel and filter in its place; figures are made for every size."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from cvtrain.explain.activations import layer_activations
from cvtrain.explain.filters import FilterImages
from cvtrain.explain.layer_statistics import DepthStory
from cvtrain.plots import figures
from cvtrain.plots.layers import draw_activations, draw_depth, draw_filters

RED, ORANGE = (200, 30, 30), (240, 140, 0)


def saved(figure, tmp_path):
    figures.save(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        return np.asarray(image.convert("RGB"))


def assert_texts_can_be_read(figure):
    """Every text lies inside the figure, and none of those around a grid on another."""
    figure.set_dpi(120)
    # A figure's own canvas draws nothing, and its layout is made when it is drawn.
    FigureCanvasAgg(figure).draw()
    width, height = figure.bbox.size
    inside = figure.get_tightbbox().extents * figure.dpi
    assert (inside >= 0).all()
    assert (inside <= [width, height, width, height]).all()
    around = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    boxes = [text.get_window_extent() for text in around]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def contains(pixels, colour):
    return (pixels == colour).all(axis=-1).any()


def mosaic(figure):
    (axes,) = figure.axes
    (image,) = axes.images
    return image.get_array()


def maps(height, width, channels, seed=0):
    return np.random.default_rng(seed).random((height, width, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "bound"),
    [((1, 1, 1), 300), ((5, 9, 3), 300), ((40, 30, 64), 600), ((7, 7, 2048), 5000)],
)
def test_all_channels_sixteen_a_row(shape, bound, tmp_path):
    values = maps(*shape)
    values[..., 1::2] = 0
    values[..., 2::4] = 1
    figure = draw_activations(layer_activations("W" * 99, values), "file-" * 30)
    pixels = saved(figure, tmp_path)
    assert_texts_can_be_read(figure)
    assert pixels.shape[0] < bound
    assert pixels.shape[1] < 1500
    rows = -(-shape[2] // 16)
    labels = [text for text in texts(figure) if text.isdigit()]
    assert labels[0] == "0"
    assert all(int(label) % 16 == 0 for label in labels)
    assert int(labels[-1]) >= 16 * (rows - 2)


def test_a_tile_is_a_channel_divided_by_its_greatest_value():
    values = maps(20, 20, 18)
    values *= np.arange(1, 19) * 1e3
    tiles = mosaic(draw_activations(layer_activations("layer", values)))
    side = 80 + 2  # each value as 4 x 4 pixels
    for channel in (0, 17):
        y, x = channel // 16 * side, channel % 16 * side
        shown = tiles[y : y + 80 : 4, x : x + 80 : 4]
        scaled = values[..., channel] / values[..., channel].max()
        expected = np.rint(255 * colormaps["viridis"](scaled)[..., :3])
        np.testing.assert_allclose(shown.astype(int), expected, atol=1)


def test_zero_is_white_where_something_is_negative():
    values = np.zeros((10, 10, 1), np.float32)
    values[0, 0], values[9, 9] = -2, 1
    tiles = mosaic(draw_activations(layer_activations("layer", values)))
    red, _, blue = tiles[0, 0].astype(int)
    assert blue > red
    assert tiles[40, 40].min() > 240


def test_dead_and_constant_channels_are_marked(tmp_path):
    values = maps(12, 12, 20)
    values[..., [3, 5]] = 0
    values[..., 7] = 0.5
    figure = draw_activations(layer_activations("layer", values))
    assert any("2 dead" in text and "1 constant" in text for text in texts(figure))
    pixels = saved(figure, tmp_path)
    assert contains(pixels, ORANGE)
    tiles = mosaic(figure)
    side = tiles.shape[1] // 16
    for channel in range(16):
        tile = tiles[: side - 2, channel * side : (channel + 1) * side - 2]
        assert contains(tile, RED) == (channel in (3, 5))


@pytest.mark.parametrize("units", [1, 10, 4096])
def test_units_without_a_map(units, tmp_path):
    values = np.random.default_rng(0).normal(size=units).astype(np.float32)
    values[1::2] = 0
    figure = draw_activations(layer_activations("dense", values))
    assert any("units" in text for text in texts(figure))
    assert any(f"{units // 2} zero" in text for text in texts(figure)) == (units > 1)
    assert not contains(mosaic(figure), RED)
    assert saved(figure, tmp_path).shape[0] < 6000
    assert_texts_can_be_read(figure)


def found(k, size=(24, 32), channels=3, dead=()):
    shape = (k, *size, channels)
    return FilterImages(
        "block$1$_\x1b[31m" + "x" * 90,
        "book",
        np.arange(k) * 2,
        np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8),
        np.ones(k, np.float32),
        np.isin(np.arange(k), dead),
    )


@pytest.mark.parametrize(
    ("k", "size", "channels"), [(1, (6, 6), 1), (64, (150, 150), 3), (512, (168, 168), 3)]
)
def test_filters(k, size, channels, tmp_path):
    figure = draw_filters(found(k, size, channels, dead=[0]))
    pixels = saved(figure, tmp_path)
    assert max(pixels.shape) < 3500
    assert_texts_can_be_read(figure)
    assert contains(mosaic(figure), RED)
    assert any("1 dead" in text for text in texts(figure))
    assert not any("\x1b" in text for text in texts(figure))


def test_a_filter_is_in_its_place_pixel_for_pixel():
    images = found(10, size=(40, 50))
    tiles = mosaic(draw_filters(images))
    # Enlarged twice: rows of eight tiles of 80 x 100 with a gap of 2.
    np.testing.assert_array_equal(tiles[82 : 82 + 80 : 2, 102 : 102 + 100 : 2], images.images[9])


@pytest.mark.parametrize("num_layers", [1, 8, 150])
@pytest.mark.parametrize("image", [None, 2])
def test_depth(num_layers, image, tmp_path):
    values = np.random.default_rng(0).random((num_layers, 5))
    story = DepthStory([f"{'W' * 40}{i}" for i in range(num_layers)], values, values, -values)
    figure = draw_depth(story, image, "$a$ file.jpg" + "W" * 60)
    pixels = saved(figure, tmp_path)
    assert pixels.std() > 1
    assert_texts_can_be_read(figure)
    sparsity = figure.axes[0].lines[0]
    np.testing.assert_allclose(sparsity.get_ydata(), values.mean(axis=1))
    assert len(figure.axes[0].lines) == (1 if image is None else 2)
