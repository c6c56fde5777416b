"""Which images are drawn for which split: single files, with their copies, in groups."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtrain.data.splitting import SplitAssignment, divide_groups
from cvtrain.errors import DataError

SHARES = {"test": 0.15, "validation": 0.15}


def by_hash(paths, seed):
    return sorted(paths, key=lambda path: hashlib.sha256(f"{seed}/{path}".encode()).hexdigest())


def expected_split(training, shares, seed):
    """The rule as the documentation has it: of each class the first by the hash go to the test."""
    parts = {split: {} for split in ("train", *shares)}
    for name, paths in training.items():
        left = by_hash(paths, seed)
        for split, share in shares.items():
            number = max(1, round(share * len(paths)))
            parts[split][name], left = set(left[:number]), left[number:]
        parts["train"][name] = set(left)
    return parts


def as_sets(parts):
    return {split: {n: set(paths) for n, paths in of.items()} for split, of in parts.items()}


@st.composite
def sets_with_copies(draw):
    """Files of several classes, the digest of each, and another order of the same files."""
    training, digests = {}, {}
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=2, unique=True)):
        copies = draw(st.lists(st.integers(1, 4), min_size=5, max_size=30))
        training[name] = []
        for image, number in enumerate(copies):
            for copy in range(number):
                path = f"{name}/{image}{f' ({copy})' if copy else ''}.jpg"
                training[name].append(path)
                digests[path] = f"{name}{image}".encode()
    order = {name: draw(st.permutations(paths)) for name, paths in reversed(training.items())}
    return training, digests, order


def test_the_split_of_a_folder_is_what_it_was_in_every_release():
    training = {
        "cat": [f"cat/{i}.jpg" for i in range(10)],
        "dog": [f"dog/{i}.jpg" for i in range(7)],
    }
    assignment = SplitAssignment({"": training}, {"test": 0.15, "validation": 0.2}, seed=3)
    assert assignment.assign_splits() == {
        "train": {
            "cat": [f"cat/{i}.jpg" for i in (1, 2, 4, 5, 6, 7)],
            "dog": [f"dog/{i}.jpg" for i in (0, 1, 2, 3, 4)],
        },
        "validation": {"cat": ["cat/0.jpg", "cat/8.jpg"], "dog": ["dog/6.jpg"]},
        "test": {"cat": ["cat/3.jpg", "cat/9.jpg"], "dog": ["dog/5.jpg"]},
    }


@settings(max_examples=50, deadline=None)
@given(sets_with_copies(), st.integers(0, 99), st.sampled_from([SHARES, {"validation": 0.3}]))
def test_copies_follow_their_image_which_falls_where_it_falls_alone(found, seed, shares):
    training, digests, order = found
    alone = {name: [p for p in paths if "(" not in p] for name, paths in training.items()}
    expected = expected_split(alone, shares, seed)
    assert as_sets(SplitAssignment({"": alone}, shares, seed).assign_splits()) == expected
    assignment = SplitAssignment({"train": training}, shares, seed).with_duplicates_known(
        digests, (), on_leak="error"
    )
    parts = assignment.assign_splits()
    images = {
        split: {name: {digests[path] for path in paths} for name, paths in classes.items()}
        for split, classes in parts.items()
    }
    assert images == {
        split: {name: {digests[path] for path in paths} for name, paths in classes.items()}
        for split, classes in expected.items()
    }
    for name, paths in training.items():
        assert Counter(paths) == Counter(p for part in parts.values() for p in part[name])
        assert sum(len(part[name]) for part in images.values()) == len(alone[name])
    again = SplitAssignment({"": order}, shares, seed).with_duplicates_known(
        digests, (), on_leak="error"
    )
    assert as_sets(again.assign_splits()) == as_sets(parts)


@pytest.mark.parametrize("times", [2, 3])
def test_of_images_that_are_all_there_several_times_every_split_gets_its_share(times):
    training = {name: [f"{name}/{i}" for i in range(40 * times)] for name in "ab"}
    digests = {p: f"{n}{i // times}".encode() for n in "ab" for i, p in enumerate(training[n])}
    assignment = SplitAssignment({"": training}, SHARES, 0).with_duplicates_known(
        digests, (), on_leak="error"
    )
    counts = {split: sum(map(len, of.values())) for split, of in assignment.assign_splits().items()}
    assert counts == {"train": 56 * times, "validation": 12 * times, "test": 12 * times}


def test_images_with_many_copies_are_not_drawn_more_often():
    # Of the hashes of many copies the first is small, and what is small is drawn for the test.
    training = {"a": [f"{i}" for i in range(300)], "b": ["x", "y"]}
    digests = {f"{i}": f"one of {i % 20}".encode() for i in range(180)}
    drawn = 0
    for seed in range(40):
        assignment = SplitAssignment({"": training}, {"test": 0.25}, seed)
        test = assignment.with_duplicates_known(digests, (), on_leak="error").assign_splits()[
            "test"
        ]["a"]
        drawn += len({digests[path] for path in test if path in digests})
    # A quarter of these twenty images, four standard deviations of the mean of forty draws.
    assert drawn / 40 == pytest.approx(20 / 4, abs=4 * np.sqrt(20 * 3 / 16 / 40))


def test_what_cannot_be_used_is_dealt_out_to_nobody():
    training = {name: [f"{name}/{i}" for i in range(20)] for name in "ab"}
    whole = {name: paths[4:] for name, paths in training.items()}
    test = {"a": ["test/a"], "b": ["test/b"]}
    digests = {"a/0": b"both", "b/0": b"both", "a/1": b"leak", "test/a": b"leak"}
    damaged = {"a/2", "a/3", "b/1", "b/2", "b/3"}
    assignment = SplitAssignment({"train": training, "test": test}, SHARES, 0)
    parts = assignment.with_duplicates_known(digests, damaged, on_leak="error").assign_splits()
    assert parts["test"] == test
    expected = expected_split(whole, {"validation": 0.15}, 0)
    assert as_sets(parts)["validation"] == expected["validation"]
    assert set(parts["train"]["a"]) == expected["train"]["a"] | set(training["a"][:4])
    allowed = assignment.with_duplicates_known(digests, damaged, on_leak="allow")
    assert "a/1" in allowed.image_of
    assert "a/0" not in allowed.image_of


def test_nothing_is_dealt_out_where_a_class_has_too_few_images():
    training = {"a": [f"a/{i}" for i in range(8)], "b": [f"b/{i}" for i in range(9)]}
    digests = {path: f"{i % 2}".encode() for i, path in enumerate(training["a"])}
    assignment = SplitAssignment({"": training}, SHARES, 0)
    assert assignment.too_few == {}
    known = assignment.with_duplicates_known(digests, {"b/0"}, on_leak="error")
    assert known.too_few == {"a": 2}
    assert known.assign_splits() == {"train": training}


@settings(max_examples=50, deadline=None)
@given(sets_with_copies(), st.integers(1, 50), st.integers(0, 99))
def test_subsets_have_different_images_first_and_more_includes_fewer(found, number, seed):
    training, digests, _ = found

    def subset(number):
        assignment = SplitAssignment({"": training}, SHARES, seed, number)
        return assignment.with_duplicates_known(digests, (), on_leak="error").assign_splits()

    some, more = subset(number), subset(number + 1)
    everything = (
        SplitAssignment({"": training}, SHARES, seed)
        .with_duplicates_known(digests, (), on_leak="error")
        .assign_splits()
    )
    for name, paths in some["train"].items():
        of_class = everything["train"][name]
        num_images = len({digests[path] for path in of_class})
        assert len(paths) == min(number, len(of_class))
        assert len({digests[path] for path in paths}) == min(number, num_images)
        assert set(paths) <= set(more["train"][name]) <= set(of_class)
    assert (some["test"], some["validation"]) == (everything["test"], everything["validation"])


def patients(numbers, *, seed=0):
    """{class: paths} of {class: (groups, most images a group)}, and the group of each path."""
    generator = np.random.default_rng(seed)
    training, groups = {}, {}
    for name, (num_groups, most) in numbers.items():
        training[name] = []
        for group in range(num_groups):
            for image in range(generator.integers(1, most + 1)):
                path = f"{name}/p{group}_{image}.png"
                training[name].append(path)
                groups[path] = f"{name}{group}"
    return training, groups


def split(training, groups, *, shares=SHARES, seed=0):
    return divide_groups(Path("photos"), {"train": training}, shares, seed, groups)


def test_groups_stay_whole_and_every_image_is_somewhere():
    training, groups = patients({"a": (40, 9), "b": (15, 30)})
    parts = split(training, groups)
    splits_of = {}
    for name, classes in parts.items():
        for paths in classes.values():
            for path in paths:
                splits_of.setdefault(groups[path], set()).add(name)
    assert all(len(splits) == 1 for splits in splits_of.values())
    for name, paths in training.items():
        assert Counter(paths) == Counter(p for part in parts.values() for p in part[name])


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_met_class_by_class_as_well_as_groups_allow(seed):
    training, groups = patients({"a": (60, 8), "b": (30, 8), "c": (200, 2)}, seed=seed)
    parts = split(training, groups, seed=seed)
    for name, paths in training.items():
        largest = max(Counter(groups[path] for path in paths).values())
        for part, share in SHARES.items():
            assert abs(len(parts[part][name]) - share * len(paths)) <= largest


def test_groups_of_several_classes_are_dealt_by_all_of_them():
    # 100 groups with 9 images of a and 1 of b, or the other way round: both in every split.
    training = {"a": [], "b": []}
    groups = {}
    for group in range(100):
        for image in range(10):
            name = "ab"[(image == 0) != (group % 2)]
            training[name].append(f"{group}_{image}")
            groups[f"{group}_{image}"] = str(group)
    for part, share in SHARES.items():
        counts = [len(paths) for paths in split(training, groups)[part].values()]
        assert counts == pytest.approx([500 * share] * 2, abs=10)


def test_every_split_has_every_class_that_has_enough_groups():
    training, groups = patients({"common": (80, 20), "rare": (3, 2), "two": (2, 3), "one": (1, 9)})
    training["one"] *= 4  # more images than splits
    parts = split(training, groups)
    missing = {(part, name) for part in parts for name in training if not parts[part][name]}
    assert missing == {("validation", "two"), ("test", "one"), ("validation", "one")}


def test_the_choice_depends_on_seed_and_names_alone():
    training, groups = patients({"a": (40, 9), "b": (15, 30)})
    first = split(training, groups)
    assert split(training, groups) == first
    assert split(training, groups, seed=1) != first
    backwards = {name: paths[::-1] for name, paths in reversed(training.items())}
    again = split(backwards, groups)
    assert {part: {n: set(p) for n, p in classes.items()} for part, classes in again.items()} == {
        part: {n: set(p) for n, p in classes.items()} for part, classes in first.items()
    }


def test_a_split_of_the_source_stays_as_it_is():
    training, groups = patients({"a": (20, 3), "b": (20, 3)})
    test = {"a": ["x"], "b": ["y"]}
    parts = divide_groups(Path("photos"), {"train": training, "test": test}, SHARES, 0, groups)
    assert parts["test"] == test
    assert set(parts) == {"train", "validation", "test"}


def test_too_few_groups_are_told():
    training, groups = patients({"a": (2, 9), "b": (2, 9)})
    with pytest.raises(DataError, match="too few groups: none is left for validation"):
        split(training, groups)
    of_class = {path: name for name, paths in training.items() for path in paths}
    with pytest.raises(DataError, match="none is left for test and validation"):
        split(training, of_class)
