"""Which images of a class go to validation, to the test, or into a subset for training.

They are chosen by a hash of the seed and each file's name. So the choice depends on nothing else:
not on the order of listing, hardly on which other files there are. Files that belong together, as
those of one patient do, can be kept in one split: then groups are chosen instead of files.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cvtrain.data.scan import listed, natural_key
from cvtrain.errors import DataError
from cvtrain.files import printable

Classes = Mapping[str, Sequence[str]]  # name -> paths


def divided(
    source: Path,
    found: Mapping[str, Classes],
    shares: Mapping[str, float],
    seed: int,
    group_of: Mapping[str, str] | None = None,
) -> dict[str, Classes]:
    """Give the splits that a source lacks their share of the training images, class by class.

    Args:
        source: for messages.
        found: classes by split; "" has those of a source without splits, all of which train.
        shares: 0 to 1, by split; of a class each split gets one image or more, and so does train.
        seed: another seed gives another choice.
        group_of: the group of each path, which falls into one split as a whole; then a class may be
            missing from a split for want of groups. None: each file is on its own.

    Raises:
        DataError: a class has too few images, or there are too few groups.
    """
    found = dict(found)
    training = found.pop("", None) or found.get("train")
    shares = {split: share for split, share in shares.items() if share > 0 and split not in found}
    if training is None:
        return found
    found["train"] = training
    if not shares:
        return found
    small = [name for name, paths in training.items() if 0 < len(paths) <= len(shares)]
    if small:
        raise DataError(
            f"{printable(source)}: too few images to share among train, {', '.join(shares)} "
            f"in class {listed(sorted(small, key=natural_key))}",
            f"Each class needs at least {len(shares) + 1}: add images or remove the class.",
        )
    if group_of is not None:
        parts = _divide_groups(training, shares, seed, group_of)
        if empty := [split for split in parts if not any(parts[split].values())]:
            raise DataError(
                f"{printable(source)}: too few groups: none is left for {' and '.join(empty)}",
                "Each class needs a group for each split: look at what the pattern takes as one.",
            )
        return found | parts
    of_class = {name: _divide(paths, shares, seed) for name, paths in training.items()}
    for split in ("train", *shares):
        found[split] = {name: part[split] for name, part in of_class.items()}
    return found


def choose(paths: Sequence[str], number: int, seed: int) -> list[str]:
    """At most `number` of the paths, in their order; a greater number includes a smaller one."""
    chosen = set(_drawn(paths, seed)[:number])
    return [path for path in paths if path in chosen]


def _divide(paths: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    drawn = _drawn(paths, seed)
    split_of = {}
    for number_served, (split, share) in enumerate(shares.items()):
        left = drawn[len(split_of) :]
        spare = len(left) - (len(shares) - number_served)  # one for each later split and for train
        number = min(max(1, round(share * len(paths))), spare)
        split_of |= dict.fromkeys(left[: max(0, number)], split)
    parts = {split: [] for split in ("train", *shares)}
    for path in paths:
        parts[split_of.get(path, "train")].append(path)
    return parts


def _divide_groups(
    training: Classes, shares: Mapping[str, float], seed: int, group_of: Mapping[str, str]
) -> dict[str, Classes]:
    """Whole groups to splits, large ones first, each where it takes the shares nearest to plan.

    Before that, each split gets a group of each class while there are any, rare classes first: what
    is missing from train cannot be learnt, what is missing from another split not be measured.
    """
    groups: dict[str, Counter[str]] = defaultdict(Counter)  # group -> class -> images
    for name, paths in training.items():
        for path in paths:
            groups[group_of[path]][name] += 1
    plan = {**shares, "train": 1 - sum(shares.values())}
    sizes = {name: len(paths) for name, paths in training.items()}
    taken = {split: Counter() for split in plan}
    split_of: dict[str, str] = {}

    def put(group: str, split: str) -> None:
        split_of[group] = split
        taken[split].update(groups[group])

    def gain(group: str, split: str) -> float:
        """How much nearer to the plan its squared distance comes, in shares of each class."""
        return sum(
            count
            * (2 * (plan[split] * sizes[name] - taken[split][name]) - count)
            / sizes[name] ** 2
            for name, count in groups[group].items()
        )

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
