"""Which images of a class go to validation, to the test, or into a subset for training.

They are chosen by a hash of the seed and each file's name. So the choice depends on nothing else:
not on the order of listing, hardly on which other files there are.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cvtrain.data.scan import listed, natural_key
from cvtrain.errors import DataError
from cvtrain.files import printable

Classes = Mapping[str, Sequence[str]]  # name -> paths


def divided(
    source: Path, found: Mapping[str, Classes], shares: Mapping[str, float], seed: int
) -> dict[str, Classes]:
    """Give the splits that a source lacks their share of the training images, class by class.

    Args:
        source: for messages.
        found: classes by split; "" has those of a source without splits, all of which train.
        shares: 0 to 1, by split; of a class each split gets one image or more, and so does train.
        seed: another seed gives another choice.

    Raises:
        DataError: a class has too few images.
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
    parts = {name: _divide(paths, shares, seed) for name, paths in training.items()}
    for split in ("train", *shares):
        found[split] = {name: part[split] for name, part in parts.items()}
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


def _drawn(paths: Iterable[str], seed: int) -> list[str]:
    def draw(path: str) -> bytes:
        return hashlib.sha256(f"{seed}/{path}".encode(errors="surrogateescape")).digest()

    return sorted(paths, key=draw)
