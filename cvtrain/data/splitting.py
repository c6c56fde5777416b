"""Assign the images of each class to train, validation and test, or to a subset for training.

They are drawn by a hash of the seed and each file's name, so the result does not depend on the
order of a listing, and hardly on other files. Copies of an image are in the same split and count as
one: the other images are in the splits where they would be without copies. Related files, such as
those of one patient, can be kept in one split as well: then groups are drawn instead of images.
"""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cvtrain.data.scan import join_names, natural_key
from cvtrain.errors import DataError
from cvtrain.system.text import escape

Classes = Mapping[str, Sequence[str]]  # name -> paths


@dataclass(frozen=True, eq=False)
class SplitAssignment:
    """Assignment of the training images of a source to the splits that it lacks.

    Splits are drawn twice: by names, before any file is opened; and again when the check has found
    copies and damaged files.

    Attributes:
        found: Paths by split and class in the source; "" is the split of a source without splits,
            whose images are all for training.
        shares: Fraction of each split, 0 to 1; each split, and train, gets at least one image of
            each class.
        seed: Random seed.
        train_per_class: Largest number of files of each class in train; larger subsets include
            smaller ones, and different images come before copies. None: all.
        image_of: {path: path that represents its image} of usable training images; the others stay
            in train, where the check reports them. None: unknown, so every file is an image of its
            own.
    """

    found: Mapping[str, Classes]
    shares: Mapping[str, float]
    seed: int
    train_per_class: int | None = None
    image_of: Mapping[str, str] | None = None

    @cached_property
    def training(self) -> Classes:
        """The images that are assigned to splits."""
        return self.found.get("") or self.found.get("train", {})

    @property
    def paths(self) -> Iterator[str]:
        """The paths of `training`."""
        return itertools.chain.from_iterable(self.training.values())

    @cached_property
    def drawn(self) -> dict[str, float]:
        """The fractions of the splits that the source lacks."""
        return _lacking(self.found, self.shares) if self.training else {}

    @cached_property
    def too_few(self) -> dict[str, int]:
        """The number of images of each class that has too few for all splits."""
        numbers = {name: len(self._different(paths)) for name, paths in self.training.items()}
        most = len(self.drawn)
        return {name: n for name, n in numbers.items() if n <= most and self.training[name]}

    def with_duplicates_known(
        self, digests: Mapping[str, bytes], unusable: Collection[str], *, on_leak: str
    ) -> "SplitAssignment":
        """The same with `image_of`: undamaged images of one class that are in no other split.

        Args:
            digests: Digests of the pixels by path; a file without one is an image of its own.
            unusable: Paths of damaged files.
            on_leak: "error", or "allow" to use images that the source also has in another split.
        """
        elsewhere = set() if on_leak == "allow" else self._digests_elsewhere(digests)
        classes_of: dict[bytes | str, set[str]] = defaultdict(set)
        first_of: dict[bytes | str, str] = {}
        for name, paths in self.training.items():
            for path in paths:
                image = digests.get(path, path)
                classes_of[image].add(name)
                if path not in unusable and image not in elsewhere:
                    # The shortest path: `x.jpg`, because `x (1).jpg` may be removed later. Not the
                    # first by the hash, because images with many copies would rarely stay in train.
                    first_of[image] = min(first_of.get(image, path), path, key=_length_first)
        image_of = {
            path: first_of[image]
            for path in self.paths
            if (image := digests.get(path, path)) in first_of and len(classes_of[image]) == 1
        }
        return replace(self, image_of=image_of)

    def assign_splits(self) -> dict[str, Classes]:
        """Paths by split and class; all in train if a class has too few images."""
        found: dict[str, Classes] = {split: c for split, c in self.found.items() if split}
        if not self.training or self.too_few:
            return found | {"train": self.training} if self.training else found
        parts: dict[str, dict[str, list[str]]] = {split: {} for split in ("train", *self.drawn)}
        for name, paths in self.training.items():
            split_of = _divide(self._different(paths), self.drawn, self.seed)
            homes = [split_of.get(self._image_of(path) or path, "train") for path in paths]
            for split, classes in parts.items():
                classes[name] = [p for p, home in zip(paths, homes, strict=True) if home == split]
        if self.train_per_class is not None:
            number = self.train_per_class
            parts["train"] = {
                name: self._subset(paths, number) for name, paths in parts["train"].items()
            }
        return {**found, **parts}

    def is_copy(self, path: str) -> bool:
        """Whether a file is assigned to the split of another file with the same image."""
        return self._image_of(path) not in (path, None)

    def _image_of(self, path: str) -> str | None:
        return path if self.image_of is None else self.image_of.get(path)

    def _different(self, paths: Sequence[str]) -> list[str]:
        """One path of each image."""
        return [path for path in paths if self._image_of(path) == path]

    def _subset(self, paths: Sequence[str], number: int) -> list[str]:
        copies = list(filter(self.is_copy, paths))
        chosen = set(choose(self._different(paths), number, self.seed))
        chosen.update(choose(copies, number - len(chosen), self.seed))
        return [path for path in paths if path in chosen or self._image_of(path) is None]

    def _digests_elsewhere(self, digests: Mapping[str, bytes]) -> set[bytes]:
        others = [classes for classes in self.found.values() if classes is not self.training]
        paths = [path for classes in others for of_class in classes.values() for path in of_class]
        return {digests[path] for path in paths if path in digests}


def divide_groups(
    source: Path,
    found: Mapping[str, Classes],
    shares: Mapping[str, float],
    seed: int,
    group_of: Mapping[str, str],
) -> dict[str, Classes]:
    """Assign the training images to the splits that a source lacks, in whole groups.

    A class with few groups may be missing from a split.

    Args:
        source: The source, for messages.
        found: Classes by split, with train.
        shares: Fraction of each split, 0 to 1.
        seed: Random seed.
        group_of: The group of each path.

    Raises:
        DataError: A class has too few images, or there are too few groups.
    """
    shares = _lacking(found, shares)
    if not shares:
        return dict(found)
    few = [name for name, paths in found["train"].items() if 0 < len(paths) <= len(shares)]
    if few:
        raise too_few_error(source, few, shares)
    parts = _divide_groups(found["train"], shares, seed, group_of)
    if empty := [split for split in parts if not any(parts[split].values())]:
        raise DataError(
            f"{escape(source)}: too few groups: none is left for {' and '.join(empty)}",
            "Each class needs a group for each split: check what the pattern matches in the names.",
        )
    return {**found, **parts}


def too_few_error(source: Path, names: Iterable[str], drawn: Collection[str]) -> DataError:
    """Error for classes that have too few images for train and each of the splits `drawn`."""
    return DataError(
        f"{escape(source)}: too few images to share among train, {', '.join(drawn)} "
        f"in class {join_names(sorted(names, key=natural_key))}",
        f"Each class needs at least {len(drawn) + 1}: add images or remove the class.",
    )


def choose(paths: Sequence[str], number: int, seed: int) -> list[str]:
    """Draw at most `number` of the paths, in their order; larger draws include smaller ones."""
    chosen = set(_drawn(paths, seed)[:number])
    return [path for path in paths if path in chosen]


def _lacking(found: Mapping[str, Classes], shares: Mapping[str, float]) -> dict[str, float]:
    return {split: share for split, share in shares.items() if share > 0 and split not in found}


def _length_first(path: str) -> tuple[int, str]:
    return len(path), path


def _divide(paths: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """{path: split} of the paths that are not in train."""
    drawn = _drawn(paths, seed)
    split_of: dict[str, str] = {}
    for number_served, (split, share) in enumerate(shares.items()):
        left = drawn[len(split_of) :]
        spare = len(left) - (len(shares) - number_served)  # one for each later split and for train
        number = min(max(1, round(share * len(paths))), spare)
        split_of |= dict.fromkeys(left[: max(0, number)], split)
    return split_of


def _divide_groups(
    training: Classes, shares: Mapping[str, float], seed: int, group_of: Mapping[str, str]
) -> dict[str, Classes]:
    """Assign groups, large ones first, to the split that comes nearest to its planned size."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)  # group -> class -> images
    for name, paths in training.items():
        for path in paths:
            groups[group_of[path]][name] += 1
    plan = {**shares, "train": 1 - sum(shares.values())}
    sizes = {name: len(paths) for name, paths in training.items()}
    taken: dict[str, Counter[str]] = {split: Counter() for split in plan}
    split_of: dict[str, str] = {}

    def put(group: str, split: str) -> None:
        split_of[group] = split
        taken[split].update(groups[group])

    def gain(group: str, split: str) -> float:
        """Reduction of the squared distance to the planned fractions of each class."""
        return sum(
            count
            * (2 * (plan[split] * sizes[name] - taken[split][name]) - count)
            / sizes[name] ** 2
            for name, count in groups[group].items()
        )

    # First each split gets a group of each class if possible, rare classes first: a class that is
    # missing from train cannot be learned, and one that is missing elsewhere cannot be measured.
    drawn = _drawn(groups, seed)
    ascending = sorted(drawn, key=lambda group: groups[group].total())
    of_class: dict[str, list[str]] = {name: [] for name in training}
    for group in ascending:
        for name in groups[group]:
            of_class[name].append(group)
    for split in ("train", *shares):
        for name in sorted(training, key=lambda name: len(of_class[name])):
            free = [group for group in of_class[name] if group not in split_of]
            if free and not taken[split][name]:
                put(free[-1 if split == "train" else 0], split)
    for group in sorted(drawn, key=lambda group: -groups[group].total()):
        if group not in split_of:
            put(group, max(plan, key=lambda split: gain(group, split)))
    return {
        split: {
            name: [path for path in paths if split_of[group_of[path]] == split]
            for name, paths in training.items()
        }
        for split in ("train", *shares)
    }


def _drawn(paths: Iterable[str], seed: int) -> list[str]:
    def draw(path: str) -> bytes:
        return hashlib.sha256(f"{seed}/{path}".encode(errors="surrogateescape")).digest()

    return sorted(paths, key=draw)
