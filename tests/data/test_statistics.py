import cv2
import numpy as np
import pytest
from PIL import Image

from cvtrain.data.statistics import collect_statistics
from cvtrain.errors import Stopped
from cvtrain.images.decode import Decoder
from cvtrain.system.signals import Stop

DECODER = Decoder((40, 50))


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    blobs = generator.integers(0, 256, (6, 6, 3), np.uint8)
    pixels = cv2.resize(blobs, (50, 40), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "copy.bmp")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(generator.integers(0, 256, (8, 60, 4), np.uint8)).save(tmp_path / "clear.png")
    Image.fromarray(pixels).save(tmp_path / "really.jpg", "WEBP")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return tmp_path


PATHS = ["a.png", "broken.jpg", "clear.png", "copy.bmp", "grey.png", "really.jpg"]


def test_facts_of_every_file(folder):
    found = collect_statistics(folder, PATHS, DECODER)
    assert [(path, *facts[:4]) for path, facts in found.facts.items()] == [
        ("a.png", 50, 40, "PNG", "RGB"),
        ("clear.png", 60, 8, "PNG", "RGBA"),
        ("copy.bmp", 50, 40, "BMP", "RGB"),
        ("grey.png", 50, 40, "PNG", "L"),
        ("really.jpg", 50, 40, "WEBP", "RGB"),
    ]
    for path, facts in found.facts.items():
        assert facts.num_bytes == (folder / path).stat().st_size
    assert list(found.unusable) == ["broken.jpg"]
    assert "damaged JPEG" in found.unusable["broken.jpg"]
    assert found.copies() == [["a.png", "copy.bmp"]]


def test_channel_statistics_are_those_of_all_pixels(folder):
    found = collect_statistics(folder, PATHS, DECODER)
    pixels = np.concatenate(
        [DECODER((folder / path).read_bytes()).pixels.reshape(-1, 3) for path in found.facts]
    )
    np.testing.assert_allclose(found.channel_means(), pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.channel_deviations(), pixels.std(axis=0), rtol=1e-12)


def test_look_alikes_are_different_images_and_not_tiny(folder):
    found = collect_statistics(folder, PATHS, DECODER)
    assert [pair[:2] for pair in found.near_duplicates] == [("a.png", "really.jpg")]
    for path in ("a.png", "really.jpg"):
        with Image.open(folder / path) as image:
            small = image.convert("RGB").resize((20, 20))
        small.save(folder / path, "PNG")
    found = collect_statistics(folder, PATHS, DECODER)
    assert (found.near_duplicates, found.num_small, found.num_plain) == ((), 3, 0)


def test_images_without_contrast_are_no_look_alikes_and_no_copies(tmp_path):
    """The same noise again and again, each time a little brighter, is too weak to be compared."""
    noise = cv2.resize(np.random.default_rng(0).integers(0, 17, (6, 6), np.uint8), (50, 40))
    for i in range(4):
        Image.fromarray(noise + np.uint8(i)).save(tmp_path / f"weak{i}.png")
        Image.new("RGB", (50, 40), (40 * i, 0, 0)).save(tmp_path / f"plain{i}.png")
        Image.fromarray(noise.astype(np.uint16) + i).save(tmp_path / f"black{i}.png")
    strong = noise * np.uint8(15)
    Image.fromarray(strong).save(tmp_path / "strong.png")
    Image.fromarray(strong + np.uint8(4)).save(tmp_path / "brighter.png")
    found = collect_statistics(tmp_path, sorted(p.name for p in tmp_path.iterdir()), DECODER)
    assert [pair[:2] for pair in found.near_duplicates] == [("brighter.png", "strong.png")]
    assert (found.num_plain, found.num_small) == (12, 0)
    assert found.copies() == []


def test_it_may_be_stopped_and_tells_its_progress(folder):
    told = []
    collect_statistics(folder, PATHS, DECODER, on_progress=lambda *done: told.append(done))
    assert told == [(6, 6)]
    stop = Stop()
    stop.requested = True
    with pytest.raises(Stopped):
        collect_statistics(folder, PATHS, DECODER, stop=stop)
