"""Maps over photographs, against Pillow's resampling, float arithmetic and the decoder."""

import io

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from cvtrain.explain.overlay import (
    COLOUR_MAP,
    colour_bar,
    heatmap,
    overlay,
    seen_box,
    upsample,
)
from cvtrain.images.decode import Decoder


def ramp(height, width):
    """A photograph whose red is the column and whose green is the row of a pixel."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def decoded(photograph, size, resize):
    stream = io.BytesIO()
    Image.fromarray(photograph).save(stream, "PNG")
    return Decoder(size, resize)(stream.getvalue()).pixels


class TestHeatmap:
    def test_what_speaks_against_is_nothing(self):
        heat = heatmap(np.array([[-2, 0], [1, 4]], np.float32))
        assert heat.tolist() == [[0, 0], [0.25, 1]]
        assert heat.dtype == np.float32

    @pytest.mark.parametrize("value", [-1, 0, 1e-13, np.nan, np.inf])
    def test_zeros_where_nothing_speaks_for_the_class(self, value):
        raw = np.full((2, 3), -1, np.float32)
        raw[0, 0] = value
        assert not heatmap(raw).any()

    def test_the_scale_of_a_map_does_not_matter(self):
        raw = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
        np.testing.assert_allclose(heatmap(raw * 1e-6), heatmap(raw), rtol=1e-5)


class TestUpsampled:
    @pytest.mark.parametrize("cells", [(1, 1), (2, 2), (7, 5)])
    def test_a_constant_map_stays_constant(self, cells):
        heat = np.full(cells, 0.1, np.float32)
        assert (upsample(heat, (37, 23)) == np.float32(0.1)).all()

    @pytest.mark.parametrize("size", [(40, 40), (64, 31), (7, 90), (7, 5)])
    def test_is_what_pillow_does(self, size):
        heat = np.random.default_rng(1).uniform(size=(7, 5)).astype(np.float32)
        expected = Image.fromarray(heat).resize(size[::-1], Image.Resampling.BILINEAR)
        found = upsample(heat, size)
        assert found.shape == size
        np.testing.assert_allclose(found, np.asarray(expected), atol=1e-6)

    def test_nothing_outside_the_box(self):
        found = upsample(np.ones((3, 3), np.float32), (10, 20), (2, 5, 6, 10))
        expected = np.zeros((10, 20))
        expected[2:8, 5:15] = 1
        np.testing.assert_array_equal(found, expected)


class TestSeenBox:
    @pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
    @pytest.mark.parametrize("size", [(200, 120), (97, 250), (24, 20)])
    @pytest.mark.parametrize("input_size", [(32, 32), (31, 48)])
    def test_what_a_network_saw_lies_where_it_was(self, size, input_size, resize):
        photograph = ramp(*size)
        seen = decoded(photograph, input_size, resize).astype(np.float32)
        box = seen_box(size, input_size, resize)
        inside = np.ix_(*map(self.inner, size, input_size, box[:2], box[2:]))
        assert photograph[inside].size > 100
        for channel in (0, 1):
            back = upsample(seen[..., channel], size, box)
            expected = photograph[..., channel][inside]
            # The decoder rounds to whole levels, and shrinks by whole factors before it resamples.
            tolerance = 0.5 + 0.15 * max(box[2] / input_size[0], box[3] / input_size[1])
            np.testing.assert_allclose(back[inside], expected, rtol=0, atol=tolerance)

    @staticmethod
    def inner(length, num_cells, start, extent):
        """Pixels without those that the resampling mixes with the border, or with nothing."""
        margin = 2 * extent / num_cells
        centres = np.arange(length) + 0.5
        first, last = max(0, start) + margin, min(length, start + extent) - margin
        return (centres >= first) & (centres <= last)

    def test_a_photograph_that_shrinks_to_one_padded_row(self):
        seen = decoded(np.zeros((3, 251, 3), np.uint8), (32, 32), "pad")[..., 0]
        heat = (seen == 0).astype(np.float32)
        assert heat.sum() == 32
        back = upsample(heat, (3, 251), seen_box((3, 251), (32, 32), "pad"))
        assert (back[1] == 1).all()


class TestOverlay:
    def test_blends_as_in_float(self):
        generator = np.random.default_rng(2)
        image = generator.integers(0, 256, (40, 30, 3)).astype(np.uint8)
        levels = generator.integers(0, 256, (40, 30))
        heat = (levels / 255).astype(np.float32)
        colours = colormaps[COLOUR_MAP](levels)[..., :3] * 255
        opacity = 0.75 * heat[..., None] ** 0.7
        expected = image * (1 - opacity) + colours * opacity
        # Colour and opacity are rounded to 1/255 before the sum is.
        np.testing.assert_allclose(overlay(image, heat), expected, atol=1.5)

    @pytest.mark.parametrize("value", [0, 255])
    def test_nothing_overflows(self, value):
        image = np.full((1, 256, 3), value, np.uint8)
        found = overlay(image, np.linspace(0, 1, 256, dtype=np.float32)[None]).astype(int)
        assert np.abs(np.diff(found, axis=1)).max() <= 12

    def test_where_a_map_says_nothing_the_photograph_stays(self):
        image = np.random.default_rng(3).integers(0, 256, (9, 4, 3)).astype(np.uint8)
        np.testing.assert_array_equal(overlay(image, np.zeros((9, 4), np.float32)), image)

    def test_colour_bar(self):
        bar = colour_bar(64, 5)
        assert bar.shape == (5, 64, 3)
        assert (bar[:, 0] == 128).all()
        assert bar[0, -1].astype(int).sum() > bar[0, 0].astype(int).sum()
