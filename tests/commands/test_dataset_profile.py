"""What is found in images, against folders made for it."""

import shutil

import pytest
from PIL import Image
from tiny_images import make_images

from cvtrain.commands.init.dataset_profile import SIDES, image_side, profile_dataset
from cvtrain.errors import DataError
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop


def look(source, smallest_side=0):
    return profile_dataset(
        str(source), smallest_side=smallest_side, stop=Stop(), console=Console(quiet=True)
    )


@pytest.mark.parametrize(
    ("median", "num_train", "smallest", "side"),
    [
        (400, 3_000, 0, 224),  # what the backbones were trained at
        (180, 3_000, 0, 160),  # no pixels are made up
        (224, 3_000, 0, 224),
        (8, 1_000, 0, 64),  # but a backbone sees nothing in less
        (32, 1_000, 75, 96),  # and some take no less
        (400, 20_000, 0, 160),  # many images: time
        (400, 200_000, 0, 128),
    ],
)
def test_image_side(median, num_train, smallest, side):
    assert image_side(median, num_train, smallest) == side
    assert side in SIDES


def test_sizes_splits_and_counts_are_those_of_the_folder(tmp_path):
    make_images(tmp_path, {"red": 10, "green": 20}, size=(100, 140))
    found = look(tmp_path)
    assert found.median_size == (100, 140)
    assert found.side == 96
    assert set(found.index.auto_splits) == {"train", "validation", "test"}
    train = found.index.counts["train"]
    assert found.imbalance == train["green"] / train["red"]
    assert found.num_train == sum(train.values())
    assert not found.is_grey
    assert not found.are_characters
    assert (found.num_bad, found.too_rare, found.label_pattern) == (0, {}, None)


def test_colourless_images_are_grey_whatever_their_mode(tmp_path):
    import numpy as np
    from PIL import Image

    for i in range(8):
        values = np.random.default_rng(i).integers(0, 256, (12, 12), dtype=np.uint8)
        for j, mode in enumerate(("L", "RGB")):
            path = tmp_path / str(i % 2) / f"{i}{j}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(values + np.uint8(j)).convert(mode).save(path)
    found = look(tmp_path)
    assert found.is_grey
    assert found.are_characters


@pytest.mark.parametrize(
    ("names", "are_characters"),
    [(("0", "1"), True), (("a", "B"), True), (("09", "10"), True), (("cat", "0"), False)],
)
def test_characters_are_told_by_the_names_of_classes(tmp_path, names, are_characters):
    make_images(tmp_path, dict.fromkeys(names, 4))
    assert look(tmp_path).are_characters == are_characters


def test_a_class_that_cannot_be_split_is_left_out(tmp_path):
    make_images(tmp_path, {"red": 10, "green": 10, "rare": 2})
    found = look(tmp_path)
    assert found.too_rare == {"rare": 2}
    assert found.index.class_names == ("green", "red")


def test_a_class_of_damaged_files_is_left_out_too(tmp_path):
    make_images(tmp_path, {"red": 10, "green": 10, "spoilt": 6})
    for i in range(4):
        (tmp_path / "spoilt" / f"{i:03d}.png").write_bytes(b"")
    found = look(tmp_path)
    assert found.too_rare == {"spoilt": 2}
    assert found.index.class_names == ("green", "red")
    Image.new("RGB", (20, 24), (1, 2, 3)).save(tmp_path / "spoilt" / "000.png")
    found = look(tmp_path)
    assert found.too_rare == {}
    assert [counts["spoilt"] for counts in found.index.counts.values()] == [1, 1, 1]


def test_a_class_of_copies_is_left_out_too(tmp_path):
    make_images(tmp_path, {"red": 10, "green": 10, "copied": 2})
    for i in range(8):
        shutil.copy(tmp_path / "copied" / f"{i % 2:03d}.png", tmp_path / "copied" / f"x{i}.png")
    found = look(tmp_path)
    assert found.too_rare == {"copied": 2}
    assert found.index.class_names == ("green", "red")


def test_classes_of_the_same_images_are_not_left_out_but_told(tmp_path):
    make_images(tmp_path, {"red": 10, "green": 10, "blue": 10})
    shutil.copytree(tmp_path / "blue", tmp_path / "azure")
    with pytest.raises(DataError, match="classes azure and blue hold the same images"):
        look(tmp_path)


def test_with_splits_of_its_own_no_class_is_too_rare(tmp_path):
    counts = {"train/red": 5, "train/rare": 1, "validation/red": 2, "test/red": 2}
    make_images(tmp_path, counts)
    assert look(tmp_path).too_rare == {}


def test_one_class_beside_rare_ones_is_no_task(tmp_path):
    make_images(tmp_path, {"red": 10, "rare": 2})
    with pytest.raises(DataError, match=r"too few images to share.*rare"):
        look(tmp_path)


def test_unusable_files_are_counted_by_kind(tmp_path):
    splits = ("train", "validation", "test")
    make_images(tmp_path, {f"{s}/{n}": 6 for s in splits for n in ("red", "green")})
    (tmp_path / "train/red/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    leak = (tmp_path / "train/red/000.png").read_bytes()
    (tmp_path / "test/red/leak.png").write_bytes(leak)
    both = (tmp_path / "train/red/001.png").read_bytes()
    (tmp_path / "train/green/both.png").write_bytes(both)
    found = look(tmp_path)
    assert found.bad_by_kind == {
        "damaged or unreadable": 1,
        "in a later split too": 1,
        "in two classes": 2,
    }
    assert found.num_bad == 4
    kept = set(found.index.splits["train"].paths)
    assert not kept & {"train/red/broken.jpg", "train/red/000.png", "train/green/both.png"}
    assert "test/red/leak.png" in found.index.splits["test"].paths


def test_an_empty_split_is_told(tmp_path):
    make_images(tmp_path, {"train/red": 5, "train/green": 5})
    (tmp_path / "validation" / "red").mkdir(parents=True)
    with pytest.raises(DataError, match="the split validation has no images"):
        look(tmp_path)


def test_flat_files_bring_a_pattern(tmp_path):
    made = make_images(tmp_path / "made", {"cat": 6, "dog": 6})
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in made.rglob("*.png"):
        path.rename(flat / f"{path.parent.name}.{path.stem}.png")
    found = look(flat)
    assert found.label_pattern
    assert found.index.class_names == ("cat", "dog")
    assert found.num_train + 4 == 12


def test_a_folder_of_nothing_readable_is_told(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            (tmp_path / name / f"{i}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(DataError, match="of 8 files none can be read"):
        look(tmp_path)
