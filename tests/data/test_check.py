import hashlib
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cvtrain.data import check
from cvtrain.data import check_cache as findings
from cvtrain.data.check import check_index, resolve
from cvtrain.data.index import build_index
from cvtrain.errors import DataError, Stopped
from cvtrain.images.decode import Decoder
from cvtrain.images.pixel_cache import PixelCache
from cvtrain.system.files import cache_dir
from cvtrain.system.signals import Stop

pytestmark = pytest.mark.usefixtures("fresh_cache")


@pytest.fixture
def root(tmp_path):
    """Two classes in three splits, 14 different images."""
    generator = np.random.default_rng(0)
    for split, number in {"train": 4, "validation": 1, "test": 2}.items():
        for name in ("a", "b"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                noise = generator.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(noise).save(folder / f"{i}.png")
    return tmp_path / "images"


def checked(root, size=(16, 16), **options):
    index = build_index(root, validation=0, test=0, seed=0)
    pixels = PixelCache(index.root, Decoder(size))
    return index, pixels, check_index(index, pixels, **options)


def problems(root):
    _, _, report = checked(root)
    return {(problem.path, problem.severity): problem for problem in report.problems}


def test_good_images_have_no_problems_and_are_decoded_once(root, monkeypatch):
    index, pixels, report = checked(root)
    assert report.problems == ()
    assert report.num_files == report.num_decoded == 14
    assert pixels.kept_bytes == 14 * 16 * 16 * 3
    monkeypatch.setattr(Decoder, "__call__", None)
    for split in index.splits.values():
        for path in split.paths:
            np.testing.assert_array_equal(pixels[path], np.asarray(Image.open(root / path)))


def test_the_digest_is_over_split_path_class_and_content(root):
    expected = hashlib.sha256()
    for split in ("train", "validation", "test"):
        for name in ("a", "b"):
            for path in sorted((root / split / name).iterdir()):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                line = f"{split}\0{path.relative_to(root)}\0{name}\0{content}\n"
                expected.update(line.encode())
    assert checked(root)[2].digest == expected.hexdigest()
    (root / "train/a/0.png").rename(root / "train/b/9.png")
    assert checked(root)[2].digest != expected.hexdigest()


def test_pixels_are_told_their_digests(root):
    (root / "test/b/0.png").write_text("<html>")
    pixels = checked(root)[1]
    assert len(pixels.digests) == 13
    decoded = Decoder((16, 16))((root / "train/a/0.png").read_bytes()).pixels
    assert pixels.digests["train/a/0.png"] == hashlib.sha256(decoded.tobytes()).digest()
    assert checked(root)[1].digests == pixels.digests


def test_unusable_files_are_bad_and_named(root):
    whole = (root / "train/a/0.png").read_bytes()
    (root / "train/a/0.png").write_bytes(whole[: len(whole) // 2])
    (root / "train/a/1.png").write_bytes(b"")
    (root / "test/b/page.jpg").write_text("<html>")
    Image.new("RGB", (20, 20)).save(root / "test/b/scan.jpg", "TIFF")
    (root / "test/b/phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    found = problems(root)
    assert set(found) == {
        ("train/a/0.png", "bad"),
        ("train/a/1.png", "bad"),
        ("test/b/page.jpg", "bad"),
        ("test/b/scan.jpg", "bad"),
        ("test/b/phone.heic", "bad"),
    }
    assert all(problem.advice and problem.what for problem in found.values())
    assert "HEIC" in found["test/b/phone.heic", "bad"].what


def test_doubtful_files_are_named(root):
    noise = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(root / "train/a/really.jpg", "PNG")
    Image.fromarray(noise[:1]).save(root / "train/a/small.png")
    Image.new("RGB", (16, 16), "green").save(root / "train/a/flat.png")
    Image.fromarray(noise).convert("CMYK").save(root / "train/a/print.jpg")
    found = {path: p.what for (path, severity), p in problems(root).items()}
    assert found == {
        "train/a/really.jpg": "PNG by its content",
        "train/a/small.png": "only 16x1 pixels",
        "train/a/flat.png": "one colour all over",
        "train/a/print.jpg": "CMYK colours, converted to RGB without a colour profile",
    }


def test_names_beyond_utf8_are_bad(root):
    (root / "train/a/0.png").rename(root / "train/a/\udcff.png")
    assert ("train/a/\udcff.png", "bad") in problems(root)


def copy(root, source, target):
    (root / target).write_bytes((root / source).read_bytes())


def test_an_image_in_two_splits_is_a_leak(root):
    copy(root, "test/a/0.png", "train/a/same-bytes.png")
    Image.open(root / "test/b/1.png").save(root / "validation/b/same-pixels.bmp")
    found = problems(root)
    assert set(found) == {
        ("train/a/same-bytes.png", "bad"),
        ("validation/b/same-pixels.bmp", "bad"),
    }
    assert all(problem.is_leak for problem in found.values())
    assert "test/a/0.png" in found["train/a/same-bytes.png", "bad"].what


def test_an_image_in_all_splits_stays_in_the_last(root):
    copy(root, "train/a/0.png", "validation/b/x.png")
    copy(root, "train/a/0.png", "test/a/x.png")
    assert set(problems(root)) == {("train/a/0.png", "bad"), ("validation/b/x.png", "bad")}


def test_twice_in_one_split_is_doubtful_or_a_conflict(root):
    copy(root, "train/a/0.png", "train/a/twin.png")
    copy(root, "train/a/1.png", "train/b/rival.png")
    found = problems(root)
    assert {key: problem.is_leak for key, problem in found.items()} == {
        ("train/a/twin.png", "doubtful"): False,
        ("train/a/1.png", "bad"): False,
        ("train/b/rival.png", "bad"): False,
    }
    assert "another class" in found["train/a/1.png", "bad"].what


def test_resolve_refuses_bad_files_with_a_list(root):
    for i in range(30):
        (root / f"train/a/bad\x1b{i}.png").write_text("<html>")
    index, _, report = checked(root)
    with pytest.raises(DataError) as caught:
        resolve(index, report, on_bad="error", on_leak="error")
    lines = caught.value.message.splitlines()
    assert "cannot be used: 30" in lines[0]
    assert r"train/a/bad\x1b0.png: no image but HTML or XML" in lines[1]
    assert "and 10 more" in lines[-1]
    assert len(lines) == 22
    assert "data.on_bad=skip" in caught.value.advice


def test_resolve_skips_bad_files_and_says_so(root):
    (root / "train/a/0.png").write_text("<html>")
    copy(root, "test/a/0.png", "train/a/leak.png")
    index, _, report = checked(root)
    kept, messages = resolve(index, report, on_bad="skip", on_leak="error")
    left_out = set(index.splits["train"].paths) - set(kept.splits["train"].paths)
    assert left_out == {"train/a/0.png", "train/a/leak.png"}
    assert kept.splits["test"].paths == index.splits["test"].paths
    assert "cannot be used: 2" in messages[0]
    assert "train/a/leak.png" in messages[0]


def test_resolve_allows_leaks_on_request(root):
    copy(root, "test/a/0.png", "train/a/leak.png")
    index, _, report = checked(root)
    with pytest.raises(DataError, match=r"leak\.png") as caught:
        resolve(index, report, on_bad="error", on_leak="error")
    assert "data.on_leak=allow" in caught.value.advice
    for on_bad in ("error", "skip"):
        kept, messages = resolve(index, report, on_bad=on_bad, on_leak="allow")
        assert kept is index
        assert "1 images appear in two splits" in messages[0]


def test_resolve_passes_good_images(root):
    index, _, report = checked(root)
    assert resolve(index, report, on_bad="error", on_leak="error") == (index, [])


def test_resolve_refuses_to_empty_a_class(root):
    (root / "validation/b/0.png").write_text("<html>")
    index, _, report = checked(root)
    with pytest.raises(DataError, match="validation has no images of class b"):
        resolve(index, report, on_bad="skip", on_leak="error")


@pytest.fixture
def flat(tmp_path):
    """Two classes in one folder, 20 images each, the first of each five times."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "flat" / name).mkdir(parents=True)
        for i in range(20):
            noise = generator.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "flat" / name / f"{i}.png")
        for i in (3, 7, 11, 19):
            copy(tmp_path / "flat", f"{name}/0.png", f"{name}/{i}.png")
    return tmp_path / "flat"


@pytest.mark.parametrize("seed", range(5))
def test_copies_follow_their_image_and_move_no_other(flat, seed):
    index = build_index(flat, validation=0.3, test=0.3, seed=seed)
    report = check_index(index, PixelCache(flat, Decoder((16, 16))))
    split_of = {
        path: split for split, samples in report.index.splits.items() for path in samples.paths
    }
    for name in ("a", "b"):
        for i in (3, 7, 11, 19):
            (flat / name / f"{i}.png").unlink()
            assert split_of.pop(f"{name}/{i}.png") == split_of[f"{name}/0.png"]
    alone = build_index(flat, validation=0.3, test=0.3, seed=seed)
    assert split_of == {
        path: split for split, samples in alone.splits.items() for path in samples.paths
    }
    assert not any(problem.is_leak for problem in report.problems)
    assert report.index.notes[-1] == "copies of other images, each in the split of its image: 8"
    assert resolve(report.index, report, on_bad="error", on_leak="error") == (report.index, [])


def test_copies_come_together_whatever_they_look_like_on_disk(flat):
    for path in sorted(flat.glob("*/*.png")):
        if path.name in ("3.png", "7.png", "11.png", "19.png"):
            Image.open(path).save(path.with_suffix(".bmp"))
            path.unlink()
    index = build_index(flat, validation=0.3, test=0.3, seed=0)
    report = check_index(index, PixelCache(flat, Decoder((16, 16))))
    assert not any(problem.is_leak for problem in report.problems)


def test_copies_of_two_classes_are_no_leak_but_one_image_under_two_labels(flat):
    copy(flat, "a/1.png", "b/1.png")
    for seed in range(5):
        index = build_index(flat, validation=0.3, test=0.3, seed=seed)
        report = check_index(index, PixelCache(flat, Decoder((16, 16))))
        bad = [problem for problem in report.problems if problem.severity == "bad"]
        assert {problem.path for problem in bad} == {"a/1.png", "b/1.png"}
        assert not any(problem.is_leak for problem in bad)


@pytest.mark.parametrize("seed", range(8))
def test_a_rare_class_with_damaged_files_is_in_every_split(flat, seed):
    for i in range(4, 20):
        (flat / "b" / f"{i}.png").unlink()
    for i in (1, 2):
        (flat / "b" / f"{i}.png").write_bytes(b"")
    for i in range(4, 8):
        Image.new("RGB", (16, 16), (9, 9, 20 * i)).save(flat / "b" / f"{i}.png")
    copy(flat, "b/3.png", "b/0.png")
    index = build_index(flat, validation=0.3, test=0.3, seed=seed)
    report = check_index(index, PixelCache(flat, Decoder((16, 16))))
    kept, _ = resolve(report.index, report, on_bad="skip", on_leak="error")
    assert all(counts["b"] for counts in kept.counts.values())
    split_of = {p: split for split, samples in kept.splits.items() for p in samples.paths}
    assert split_of["b/0.png"] == split_of["b/3.png"]
    for path, split in split_of.items():
        assert path.startswith("b/") or path in report.index.splits[split].paths


def test_a_leak_of_the_source_stays_one(root):
    copy(root, "test/a/0.png", "train/a/leak.png")
    index = build_index(root, validation=0.5, test=0.5, seed=0)
    report = check_index(index, PixelCache(root, Decoder((16, 16))))
    assert report.index.splits is index.splits
    assert [problem.path for problem in report.problems] == ["train/a/leak.png"]


def test_a_leak_out_of_the_images_that_were_dealt_is_one_of_the_source(root):
    (root / "validation").rename(root.parent / "elsewhere")
    for i in range(8):
        copy(root, "test/a/0.png", f"train/a/leak{i}.png")
    index = build_index(root, validation=0.4, test=0, seed=0)
    report = check_index(index, PixelCache(root, Decoder((16, 16))))
    leaks = sorted(problem.path for problem in report.problems if problem.is_leak)
    assert leaks == [f"train/a/leak{i}.png" for i in range(8)]
    assert not any("leak" in path for path in report.index.splits["validation"].paths)


def test_leaks_empty_no_split_that_is_dealt_out_of_the_rest(root):
    (root / "validation").rename(root.parent / "elsewhere")
    for name in "ab":
        for i in (0, 1):
            copy(root, f"train/{name}/{i}.png", f"test/{name}/leak{i}.png")
    for seed in range(8):
        index = build_index(root, validation=0.15, test=0, seed=seed)
        report = check_index(index, PixelCache(root, Decoder((16, 16))))
        kept, _ = resolve(report.index, report, on_bad="skip", on_leak="error")
        assert kept.counts["train"] == kept.counts["validation"] == {"a": 1, "b": 1}
    copy(root, "train/a/2.png", "test/a/leak2.png")
    index = build_index(root, validation=0.15, test=0, seed=0)
    report = check_index(index, PixelCache(root, Decoder((16, 16))))
    with pytest.raises(DataError, match=r"class a \(1 in 4 files: 3 in a later split too\)"):
        resolve(report.index, report, on_bad="skip", on_leak="error")
    with pytest.raises(DataError, match="too few different") as caught:
        resolve(report.index, report, on_bad="error", on_leak="error")
    assert "on_bad=skip" not in caught.value.advice
    assert "on_leak=allow" in caught.value.advice
    report = check_index(index, PixelCache(root, Decoder((16, 16))), on_leak="allow")
    kept, _ = resolve(report.index, report, on_bad="error", on_leak="allow")
    assert kept.counts["train"] == {"a": 3, "b": 3}


def test_a_subset_is_of_different_images_and_leaves_the_other_splits(flat):
    def subset(number):
        index = build_index(flat, validation=0.3, test=0.3, seed=0, train_per_class=number)
        report = check_index(index, PixelCache(flat, Decoder((16, 16))))
        assert report.num_files == sum(len(s.paths) for s in report.index.splits.values())
        return report.index.splits

    everything = subset(None)
    digest_of = {path: path.read_bytes() for path in flat.rglob("*.png")}
    previous = set()
    for number in (1, 2, 5, 7, 20):
        splits = subset(number)
        train = set(splits["train"].paths)
        assert previous <= train <= set(everything["train"].paths)
        previous = train
        for name in "ab":
            paths = [flat / path for path in train if path.startswith(name)]
            of_class = [flat / p for p in everything["train"].paths if p.startswith(name)]
            num_images = len({digest_of[path] for path in of_class})
            assert len(paths) == min(number, len(of_class))
            assert len({digest_of[path] for path in paths}) == min(number, num_images)
        for split in ("validation", "test"):
            assert splits[split].paths == everything[split].paths


def test_a_subset_passes_over_damaged_files_which_are_told(flat):
    for path in flat.rglob("*.png"):
        if path.name in ("3.png", "7.png", "11.png", "19.png"):
            path.write_bytes(b"")
    index = build_index(flat, validation=0.3, test=0.3, seed=0, train_per_class=6)
    report = check_index(index, PixelCache(flat, Decoder((16, 16))))
    assert sum(problem.severity == "bad" for problem in report.problems) == 8
    kept, _ = resolve(report.index, report, on_bad="skip", on_leak="error")
    assert kept.counts["train"] == {"a": 6, "b": 6}  # of 16 there are 5, 5 and 6


def test_for_a_subset_without_copies_the_rest_is_not_decoded(flat):
    for i in (3, 7, 11, 19):
        for name in ("a", "b"):
            (flat / name / f"{i}.png").unlink()
    index = build_index(flat, validation=0.1, test=0.1, seed=0, train_per_class=2)
    report = check_index(index, PixelCache(flat, Decoder((16, 16))))
    assert report.num_decoded == report.num_files == 2 * (2 + 2 + 2)


def test_classes_of_the_same_images_are_told_whatever_is_skipped(flat):
    for path in (flat / "a").iterdir():
        path.unlink()
    for path in (flat / "b").iterdir():
        copy(flat, f"b/{path.name}", f"a/{path.name}")
    index = build_index(flat, validation=0.3, test=0.3, seed=0)
    report = check_index(index, PixelCache(flat, Decoder((16, 16))))
    for on_bad in ("error", "skip"):
        with pytest.raises(DataError, match="flat: classes a and b hold the same images"):
            resolve(report.index, report, on_bad=on_bad, on_leak="error")


def test_a_second_check_decodes_nothing(root):
    (root / "train/a/0.png").write_text("<html>")
    _, _, first = checked(root)
    _, pixels, second = checked(root)
    assert second.num_decoded == pixels.kept_bytes == 0
    assert (second.problems, second.digest) == (first.problems, first.digest)


def test_only_what_changed_is_checked_again(root):
    checked(root)
    path = root / "train/a/0.png"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # same size, and the time is set back: only ctime tells
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    _, _, report = checked(root)
    assert report.num_decoded == 1
    assert [problem.path for problem in report.problems] == ["train/a/0.png"]


def test_another_decoder_decodes_again(root):
    checked(root)
    assert checked(root, size=(8, 8))[2].num_decoded == 14
    assert checked(root, size=(8, 8))[2].num_decoded == 0
    assert checked(root)[2].num_decoded == 0


@pytest.mark.parametrize(
    "damage", [b"this is no database" * 100, b"", b"SQLite format 3\0 but not"]
)
def test_a_damaged_cache_is_replaced(root, damage):
    checked(root)
    (cache_dir() / "findings.sqlite").write_bytes(damage)
    assert checked(root)[2].num_decoded == 14
    assert checked(root)[2].num_decoded == 0


def test_a_cache_with_odd_rows_is_not_believed(root):
    checked(root)
    with sqlite3.connect(cache_dir() / "findings.sqlite") as database:
        database.execute("UPDATE findings SET findings = '{'")
    database.close()
    assert checked(root)[2].num_decoded == 14


def test_a_locked_cache_is_done_without(root, monkeypatch):
    monkeypatch.setattr(findings, "_WAIT_SECONDS", 0.01)
    checked(root)
    database = sqlite3.connect(cache_dir() / "findings.sqlite", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    assert checked(root)[2].num_decoded == 14
    database.close()


def test_without_a_cache_folder_checking_works(root, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path / "file"))
    assert checked(root)[2].num_decoded == 14


def test_two_checks_at_once_agree(root):
    with ThreadPoolExecutor(4) as pool:
        digests = {report.digest for _, _, report in pool.map(checked, [root] * 8)}
    assert len(digests) == 1


def test_progress_is_reported_and_a_stop_is_heeded(root, monkeypatch):
    monkeypatch.setattr(check, "_FILES_AT_ONCE", 5)
    seen = []
    checked(root, on_progress=lambda *numbers: seen.append(numbers))
    assert seen == [(5, 14), (10, 14), (14, 14)]
    stop = Stop()

    def stop_soon(done, _):
        stop.requested = done >= 10

    with pytest.raises(Stopped):
        checked(root, size=(8, 8), stop=stop, on_progress=stop_soon)
    assert checked(root, size=(8, 8))[2].num_decoded == 4


@pytest.mark.realdata
def test_photographs_are_clean(shared):
    index = build_index(shared / "data" / "clothing", validation=0, test=0, seed=0)
    train = set(index.splits["train"].paths)
    index = index.without(train)
    report = check_index(index, PixelCache(index.root, Decoder((64, 64))))
    assert (report.problems, report.num_files) == ((), 713)
