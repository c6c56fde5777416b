"""The views of test-time augmentation."""

import numpy as np
import pytest

from cvtrain.images.augment import Change, apply
from cvtrain.images.tta_views import view_changes
from cvtrain.sections import Augment, RandAugment

BOOK = Augment(flip="horizontal", rotate=40, shift=0.2, shear=0.2, zoom=0.2)


def test_the_first_view_is_the_image_and_the_second_its_mirror_image():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    first, second = (apply(pixels, change, "nearest") for change in view_changes(BOOK, 2, seed=0))
    np.testing.assert_array_equal(first, pixels)
    np.testing.assert_array_equal(second, np.fliplr(pixels))


@pytest.mark.parametrize(
    ("flip", "sides"), [("none", 1), ("horizontal", 2), ("vertical", 2), ("both", 4)]
)
def test_where_training_only_mirrored_there_are_no_more_views_than_sides(flip, sides):
    changes = view_changes(Augment(flip=flip), 8, seed=0)
    assert len(changes) == len(set(changes)) == sides
    assert changes[0] == Change()


def test_further_views_are_changed_by_at_most_half_and_mirrored_in_turn():
    changes = view_changes(BOOK, 200, seed=3)
    assert [change.mirror_x for change in changes] == [False, True] * 100
    assert not any(change.mirror_y for change in changes)
    assert len(set(changes)) == 200
    for name, most in (("rotate", 20), ("shift_x", 0.1), ("shift_y", 0.1), ("shear", 0.1)):
        values = np.abs([getattr(change, name) for change in changes[2:]])
        assert 0.9 * most < values.max() <= most
    zooms = np.array([change.zoom for change in changes[2:]])
    assert 0.9 <= zooms.min() < 0.92
    assert 1.08 < zooms.max() <= 1.1


def test_colours_stay_and_nothing_is_erased():
    strong = Augment(rotate=10, brightness=0.5, contrast=0.5, erase=1.0, rand_augment=RandAugment())
    for change in view_changes(strong, 10, seed=0):
        colours = (change.brightness, change.contrast, change.saturation)
        assert colours == (0.0, 1.0, 1.0)
        assert change.operations == ()
        assert change.erased is None


def test_more_views_begin_like_fewer_and_the_seed_draws_them():
    eight = view_changes(BOOK, 8, seed=1)
    assert view_changes(BOOK, 5, seed=1) == eight[:5]
    assert view_changes(BOOK, 8, seed=2) != eight
