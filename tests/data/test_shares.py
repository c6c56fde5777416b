"""Groups; how single files are drawn is tested with the index that draws them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cvtrain.data.shares import divided
from cvtrain.errors import DataError

SHARES = {"test": 0.15, "validation": 0.15}


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
    return divided(Path("photos"), {"": training}, shares, seed, groups)


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
    parts = divided(Path("photos"), {"train": training, "test": test}, SHARES, 0, groups)
    assert parts["test"] == test
    assert set(parts) == {"train", "validation", "test"}


def test_too_few_groups_are_told():
    training, groups = patients({"a": (2, 9), "b": (2, 9)})
    with pytest.raises(DataError, match="too few groups: none is left for validation"):
        split(training, groups)
    of_class = {path: name for name, paths in training.items() for path in paths}
    with pytest.raises(DataError, match="none is left for test and validation"):
        split(training, of_class)
