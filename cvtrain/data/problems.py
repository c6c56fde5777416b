"""Problems that the check finds: of one file, of copies of an image, and of whole classes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cvtrain.data.index import Index
from cvtrain.data.scan import join_names, natural_key
from cvtrain.errors import DataError
from cvtrain.images.file_types import CONVERT, EXPORT
from cvtrain.system.text import escape


@dataclass(frozen=True)
class Problem:
    """A problem of one file.

    Attributes:
        path: Path relative to the root of the index.
        severity: "bad" if it invalidates training or metrics, or "doubtful".
        what: Description of the problem.
        advice: Advice to the user.
        is_leak: Whether the image is also in a later split, where it is kept.
    """

    path: str
    severity: str
    what: str
    advice: str
    is_leak: bool = False

    @property
    def kind(self) -> str:
        """Category of a bad problem."""
        if self.is_leak:
            return "in a later split too"
        if self.what.startswith("the same image as"):
            return "in two classes"
        if self.advice.startswith((CONVERT, EXPORT)):
            return "in formats that are not read"
        return "damaged or unreadable"


class Sample(NamedTuple):
    """One file with its split and class."""

    split: str
    path: str
    class_name: str


def samples_of(index: Index) -> list[Sample]:
    """All files of an index, in the order of its splits."""
    return [
        Sample(name, path, index.class_names[label])
        for name, split in index.splits.items()
        for path, label in zip(split.paths, split.labels.tolist(), strict=True)
    ]


def duplicates(samples: Iterable[Sample], digests: Mapping[str, bytes]) -> Iterator[Problem]:
    """Problems of samples that decode to the same pixels.

    Args:
        samples: Samples in the order of the splits.
        digests: Digests of the pixels by path; files that cannot be decoded have none.
    """
    by_image: dict[bytes, list[Sample]] = defaultdict(list)
    for sample in samples:
        if image := digests.get(sample.path):
            by_image[image].append(sample)
    for _, same in sorted(by_image.items()):
        if len(same) > 1:
            yield from _same_image(same)


def _same_image(same: Sequence[Sample]) -> Iterator[Problem]:
    """Problems of samples with the same pixels, in the order of the splits."""
    rest = [sample for sample in same if sample.split == same[-1].split]
    one = rest[0]
    for sample in same[: -len(rest)]:
        what = f"the same image as {escape(one.path)} of the {one.split} images"
        yield Problem(sample.path, "bad", what, "Remove one of the two.", is_leak=True)
    of_another_class = next((s for s in rest if s.class_name != one.class_name), None)
    for sample in rest if of_another_class else rest[1:]:
        if of_another_class:
            other = one if sample.class_name != one.class_name else of_another_class
            what = f"the same image as {escape(other.path)}, which is of another class"
            yield Problem(sample.path, "bad", what, "Keep it in the class that is right.")
        else:
            what = f"the same image as {escape(one.path)}"
            yield Problem(sample.path, "doubtful", what, "Remove one: the image counts double.")


def same_classes(index: Index, digests: Mapping[str, bytes]) -> DataError | None:
    """Error for classes that consist of the same images, or None.

    Args:
        index: The index.
        digests: As in `duplicates`.
    """
    labels_of: dict[tuple[str, bytes], set[str]] = defaultdict(set)
    for sample in samples_of(index):
        if image := digests.get(sample.path):
            labels_of[sample.split, image].add(sample.class_name)
    copied: dict[str, set[str]] = defaultdict(set)  # class -> the labels that its images have
    for labels in labels_of.values():
        for name in labels:
            copied[name] |= labels
    for labels in labels_of.values():
        if len(labels) == 1:
            copied.pop(next(iter(labels)), None)
    closed = [labels for labels in copied.values() if labels <= copied.keys()]
    groups = {tuple(sorted(g, key=natural_key)) for g in closed if not any(g < h for h in closed)}
    if not groups:
        return None
    lists = (f"{join_names(names)} and {escape(last)}" for *names, last in sorted(groups))
    what = "; ".join(f"classes {names} hold the same images" for names in lists)
    return DataError(
        f"{escape(index.root)}: {what}",
        "Which label is right cannot be known. Remove all of these classes but one, or leave them "
        "out: name the others in data.classes.",
    )


def too_few_different(index: Index, problems: Iterable[Problem]) -> DataError | None:
    """Error for classes with too few images to be split, or None.

    Args:
        index: The index after `reassign_splits`.
        problems: Problems of the files that cannot be used.
    """
    assignment = index.assignment
    if assignment is None or not assignment.drawn or not assignment.too_few:
        return None
    kind_of = {problem.path: problem.kind for problem in problems if problem.severity == "bad"}

    def describe(name: str) -> str:
        paths = assignment.training[name]
        copies = sum(map(assignment.is_copy, paths))
        reasons = Counter(kind_of[path] for path in paths if path in kind_of)
        reasons += Counter({"copies": copies})
        why = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items())
        return f"{name} ({assignment.too_few[name]:,} in {len(paths):,} files{why and ': '}{why})"

    return DataError(
        f"{escape(index.root)}: too few different images to share among train, "
        f"{', '.join(assignment.drawn)} in class "
        f"{join_names(map(describe, sorted(assignment.too_few, key=natural_key)))}",
        f"Each class needs at least {len(assignment.drawn) + 1} that can be used; copies of an "
        "image count as one. Add images, or leave the class out (data.classes).",
    )
