import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from cvtrain.data import near_duplicates as near_duplicates
from cvtrain.data.near_duplicates import (
    MAX_DISTANCE,
    can_be_compared,
    difference_hash,
    find_near_duplicates,
    thumbnail,
)


def picture(seed, size=(180, 180)):
    """A smooth random image: blobs of colour, as photographs have."""
    generator = np.random.default_rng(seed)
    return cv2.resize(
        generator.integers(0, 256, (7, 7, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC
    )


def pairs_of(images):
    hashes = np.stack([difference_hash(image) for image in images])
    found = find_near_duplicates(hashes, np.stack([thumbnail(image) for image in images]))
    return {(pair.first, pair.second) for pair in found}


def compressed(image, quality):
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def resized(image, size):
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


CHANGES = {
    "compressed": lambda image: compressed(image, 30),
    "smaller": lambda image: resized(image, (70, 64)),
    "brighter": lambda image: cv2.convertScaleAbs(image, alpha=0.92, beta=10),
    "noisy": lambda image: cv2.add(
        image, np.random.default_rng(9).integers(0, 9, image.shape, np.uint8)
    ),
    "lettered": lambda image: cv2.putText(image.copy(), "c", (5, 175), 0, 0.5, (255, 255, 255)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(change):
    images = [picture(seed) for seed in range(40)]
    images += [CHANGES[change](image) for image in images[:10]]
    assert pairs_of(images) == {(i, 40 + i) for i in range(10)}


def test_colour_tells_apart_what_hashes_do_not():
    image = picture(0)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    assert (difference_hash(image) == difference_hash(grey)).all()
    assert pairs_of([image, grey]) == set()


def test_a_hash_says_where_it_gets_brighter():
    ramp = np.broadcast_to(np.arange(180, dtype=np.uint8)[None, :, None], (180, 180, 3))
    assert np.unpackbits(difference_hash(np.ascontiguousarray(ramp))).sum() == 64
    assert np.unpackbits(difference_hash(np.ascontiguousarray(ramp[:, ::-1]))).sum() == 0
    half = np.where(np.arange(180)[:, None, None] < 90, ramp, 0).astype(np.uint8)
    assert np.unpackbits(difference_hash(half)).reshape(8, 8).sum(axis=1).tolist() == [4] * 8


def test_all_pairs_within_the_distance_are_found_without_comparing_all():
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 256, (300, 8), np.uint8)
    near = hashes.copy()
    for i, bits in enumerate(generator.integers(0, 12, len(near))):
        flipped = generator.choice(64, bits, replace=False)
        near[i] ^= np.packbits(np.isin(np.arange(64), flipped))
    hashes = np.concatenate([hashes, near])
    found = find_near_duplicates(hashes, np.zeros((600, 16, 16, 3), np.uint8))
    bits = np.unpackbits(hashes, axis=1).astype(int)
    expected = {
        (i, j): int(abs(bits[i] - bits[j]).sum()) for i, j in itertools.combinations(range(600), 2)
    }
    expected = {pair: distance for pair, distance in expected.items() if distance <= MAX_DISTANCE}
    assert {pair[:2]: pair.distance for pair in found} == expected
    assert len(found) > 100


def test_the_difference_is_the_root_mean_square_and_sorts():
    hashes = np.zeros((3, 8), np.uint8)
    thumbnails = np.zeros((3, 16, 16, 3), np.uint8)
    thumbnails[1, :8] = 2
    thumbnails[2, 0] = 20
    first, second, third = find_near_duplicates(hashes, thumbnails)
    assert (first[:2], first.difference) == ((0, 1), 1.0)
    assert [second.difference, third.difference] == pytest.approx(
        [np.std([20, *[0] * 15]), np.std([18, *[-2] * 7, *[0] * 8])][::-1]
    )
    assert [second[:2], third[:2]] == [(1, 2), (0, 2)]


def test_brightness_alone_is_no_difference():
    thumbnails = np.random.default_rng(0).integers(0, 200, (2, 16, 16, 3), np.uint8)
    thumbnails[1] = thumbnails[0] + np.array([50, 30, 0], np.uint8)
    (pair,) = find_near_duplicates(np.zeros((2, 8), np.uint8), thumbnails)
    assert pair.difference == pytest.approx(0, abs=1e-4)


def test_what_differs_less_from_a_plain_image_than_a_pair_may_is_not_compared():
    thumbnail = np.full((16, 16, 3), (10, 20, 30), np.uint8)
    assert not can_be_compared(thumbnail)
    thumbnail[::2] += 16  # by 8 from the mean
    assert not can_be_compared(thumbnail)
    thumbnail[::2] += 1
    assert can_be_compared(thumbnail)


def test_a_crowd_of_plain_images_does_not_take_for_ever(monkeypatch):
    hashes = np.zeros((3000, 8), np.uint8)
    thumbnails = np.zeros((3000, 16, 16, 3), np.uint8)
    monkeypatch.setattr(near_duplicates, "_MOST_PASSES", 2)
    assert len(find_near_duplicates(hashes, thumbnails)) == 2999 + 2998
    monkeypatch.setattr(near_duplicates, "_MOST_PAIRS", 1000)
    assert len(find_near_duplicates(hashes, thumbnails)) <= 2999


def test_one_image_is_like_no_other():
    assert (
        find_near_duplicates(np.zeros((1, 8), np.uint8), np.zeros((1, 16, 16, 3), np.uint8)) == []
    )
