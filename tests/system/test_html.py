"""Values in a template -> a page of its own: pictures, escaping."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cvtrain.system.html import picture


class TestPicture:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ((480, 640), (480, 640)),
            ((1280, 400), (640, 200)),
            ((300, 3000), (64, 640)),
            ((160, 20), (160, 20)),
            ((28, 28), (168, 168)),
            ((1, 100), (2, 200)),
            ((1, 4000), (1, 640)),
        ],
    )
    def test_size(self, size, expected):
        image = self.decoded(picture(np.full((*size, 3), 77, np.uint8)))
        assert image.shape[:2] == expected
        assert np.abs(image.astype(int) - 77).max() <= 1

    def test_a_thumbnail_is_enlarged_less(self):
        assert self.decoded(picture(np.zeros((30, 40, 3), np.uint8), shortest=64)).shape[0] == 60
        assert self.decoded(picture(np.zeros((64, 64, 3), np.uint8), shortest=64)).shape[0] == 64

    def test_pixels_of_a_small_image_stay_squares(self):
        small = np.random.default_rng(0).integers(0, 256, (8, 8, 1)).astype(np.uint8).repeat(3, 2)
        found = self.decoded(picture(small))[10::20, 10::20].astype(int)
        assert np.abs(found - small).max() < 30

    @staticmethod
    def decoded(uri):
        prefix = "data:image/jpeg;base64,"
        assert uri.startswith(prefix)
        image = Image.open(io.BytesIO(base64.b64decode(uri[len(prefix) :], validate=True)))
        assert image.format == "JPEG"
        return np.asarray(image)
