"""Is each image usable, and is none of them in two splits? Asked before training, not during it.

What was found about a file is remembered until the file or the decoder changes, so a second check
takes a fraction of the first. The first one leaves the decoded pixels behind for training.
"""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cvtrain.data.decode import Decoded, DecodeError, read_image
from cvtrain.data.findings import Facts, Finding, FindingsCache, file_state
from cvtrain.data.index import Index
from cvtrain.data.pixels import Pixels
from cvtrain.data.shares import choose
from cvtrain.errors import DataError
from cvtrain.files import printable
from cvtrain.machine import num_threads
from cvtrain.signals import NEVER, Stop

_FILES_AT_ONCE = 128  # are remembered together
_DOING = "checking the images"
_MOST_LISTED = 20
_SMALLEST = 8  # pixels; the smallest set in use, scikit-learn's digits, has 8x8
_FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WEBP",
}


@dataclass(frozen=True)
class Problem:
    """Something about one file.

    Attributes:
        path: relative to the index's root.
        severity: "bad" spoils training or its figures; "doubtful" deserves a look.
        what: what is wrong.
        advice: what to do about it.
        is_leak: the image is also in a later split, where it counts.
    """

    path: str
    severity: str
    what: str
    advice: str
    is_leak: bool = False


@dataclass(frozen=True)
class Report:
    """What a check has found.

    Attributes:
        index: that was checked. Where its images were dealt out here, all copies of one are in the
            first of the splits that they fell into.
        problems: in the order of the index, duplicates last.
        digest: SHA-256 over split, path, class and content of every file, in hexadecimal digits.
        num_files: how many files were checked.
        num_decoded: how many of them had to be decoded; the others were known from before.
    """

    index: Index
    problems: tuple[Problem, ...]
    digest: str
    num_files: int
    num_decoded: int


class _Sample(NamedTuple):
    split: str
    path: str
    class_name: str


def check_index(
    index: Index,
    pixels: Pixels,
    *,
    stop: Stop = NEVER,
    on_progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Report:
    """Check every file of an index.

    Args:
        index: whose files are checked.
        pixels: decodes them, keeps what it decodes while it has room, and is told the digests.
        stop: polled before every file.
        on_progress: called with how many files are done, and of how many.
        workers: threads; None is one per processor.

    Raises:
        Stopped: `stop` asked for it; what was found so far is remembered.
    """
    paths = [path for split in index.splits.values() for path in split.paths]
    facts: dict[str, Facts] = {}
    num_decoded = 0
    with (
        FindingsCache(pixels.decoder) as cache,
        ThreadPoolExecutor(workers or num_threads()) as pool,
    ):
        for start in range(0, len(paths), _FILES_AT_ONCE):
            part = paths[start : start + _FILES_AT_ONCE]
            found, num_fresh = _facts_of(part, pixels, cache, pool, stop)
            facts |= zip(part, found, strict=True)
            num_decoded += num_fresh
            if on_progress is not None:
                on_progress(len(facts), len(paths))
    pixels.digests = {path: found.pixels for path, found in facts.items() if found.pixels}
    index = with_copies_together(index, pixels.digests)
    index = with_every_class(index, facts)
    samples = _samples(index)
    problems = [
        Problem(sample.path, *finding)
        for sample in samples
        for finding in facts[sample.path].findings
    ]
    problems += _duplicates(samples, facts)
    return Report(
        index,
        tuple(problems),
        digest=_digest(samples, facts),
        num_files=len(samples),
        num_decoded=num_decoded,
    )


def resolve(index: Index, report: Report, *, on_bad: str, on_leak: str) -> tuple[Index, list[str]]:
    """The index as training may use it, and what a person should be told about that.

    Args:
        index: that was checked.
        report: of its check.
        on_bad: "error", or "skip" to go on without bad files; of a leak, the later split keeps the
            image.
        on_leak: "error", or "allow" to leave images in two splits.

    Raises:
        DataError: bad files or leaks are not to be skipped, or nothing is left of a class or split.
    """
    bad = [problem for problem in report.problems if problem.severity == "bad"]
    num_leaks = sum(problem.is_leak for problem in bad)
    messages = []
    if num_leaks and on_leak == "allow":
        bad = [problem for problem in bad if not problem.is_leak]
        messages.append(f"{num_leaks:,} images are in two splits: the figures will flatter")
    if not bad:
        return index, messages
    if on_bad == "error":
        raise _refusal(index, bad)
    paths = dict.fromkeys(problem.path for problem in bad)
    messages.append(f"left out, because they cannot be used: {len(paths):,}\n{_listed(bad)}")
    kept = index.without(paths.keys())
    _refuse_emptied(index, kept)
    return kept, messages


def _facts_of(
    paths: Sequence[str],
    pixels: Pixels,
    cache: FindingsCache,
    pool: ThreadPoolExecutor,
    stop: Stop,
) -> tuple[list[Facts], int]:
    """Facts about each path, and how many had to be found out."""

    def examine(i: int) -> Facts:
        stop.go_on(_DOING)  # before every file: of the largest photographs one takes a second
        return _examine(paths[i], pixels)

    stop.go_on(_DOING)
    # The state is taken before the file is read: a change in between is noticed the next time.
    states = [file_state(pixels.root.absolute() / path) for path in paths]
    known = [state and cache.get(state) for state in states]
    unknown = [i for i, facts in enumerate(known) if facts is None]
    fresh = list(pool.map(examine, unknown))
    for i, facts in zip(unknown, fresh, strict=True):
        known[i] = facts
    cache.put((states[i], known[i]) for i in unknown if states[i] and known[i].content)
    return known, len(unknown)


def _examine(path: str, pixels: Pixels) -> Facts:
    """Read, digest and decode one file; `pixels` keeps what it decodes to."""
    findings = []
    if any("\udc80" <= c <= "\udcff" for c in path):  # what Python makes of bytes beyond UTF-8
        findings.append(Finding("bad", "the name is not UTF-8", "Rename the file or its folder."))
    content_digest = pixels_digest = b""
    try:
        content = read_image(pixels.root / path)
        content_digest = hashlib.sha256(content).digest()
        decoded = pixels.decoder(content)
        pixels_digest = hashlib.sha256(decoded.pixels).digest()
        findings += _doubts(path, decoded)
        pixels.keep(path, decoded.pixels)
    except DecodeError as error:
        findings.append(Finding("bad", error.message, error.advice))
    return Facts(content_digest, pixels_digest, tuple(findings))


def _doubts(path: str, decoded: Decoded) -> Iterator[Finding]:
    suffix = Path(path).suffix.lower()
    if suffix and decoded.format != _FORMAT_OF_SUFFIX.get(suffix):
        right = next(s for s, f in _FORMAT_OF_SUFFIX.items() if f == decoded.format)
        yield Finding(
            "doubtful", f"{decoded.format} by its content", f"Let its name end in {right}."
        )
    for note in decoded.notes:
        yield Finding("doubtful", note, "Look at it; convert or replace it if that is not right.")
    if min(decoded.width, decoded.height) < _SMALLEST:
        yield Finding(
            "doubtful",
            f"only {decoded.width}x{decoded.height} pixels",
            "Replace it by a larger one, or remove it.",
        )
    if _is_plain(decoded.pixels):
        yield Finding("doubtful", "one colour all over", "Remove it if it shows nothing.")


def _is_plain(pixels: np.ndarray) -> bool:
    # Row by row: comparing all pixels with the first one takes forty times as long.
    return bool((pixels[0] == pixels[0, 0]).all() and (pixels[1:] == pixels[:-1]).all())


def with_copies_together(index: Index, digests: Mapping[str, bytes]) -> Index:
    """The index without the leaks that come from dealing copies of an image into two splits.

    Args:
        index: whose images may have been dealt out.
        digests: of the pixels, by path; images that have none stay where they are.
    """
    split_of: dict[bytes, str] = {}
    moves = {}
    for split in index.dealt:
        for path in index.splits[split].paths:
            pixels = digests.get(path)
            if pixels and split_of.setdefault(pixels, split) != split:
                moves[path] = split_of[pixels]
    if not moves:
        return index
    note = f"images that were moved into the split that holds the same image: {len(moves):,}"
    return replace(index.moved(moves), notes=(*index.notes, note))


def with_every_class(index: Index, facts: Mapping[str, Facts]) -> Index:
    """The index whose drawn splits have an image of each class that has enough usable ones.

    A split may have drawn nothing but damaged files of a rare class. It then gets an image of the
    split that has most of that class; one without copies, which would have to come along.
    """
    copies = Counter(found.pixels for found in facts.values())
    usable = _usable(index, facts)
    by_class = index.by_class()
    left = {
        split: {name: [p for p in paths if p in usable] for name, paths in by_class[split].items()}
        for split in index.dealt
    }
    moves = {}
    for split, name in itertools.product(index.dealt, index.class_names):
        if by_class[split][name] and not left[split][name]:
            giving = max(index.dealt, key=lambda each: len(left[each][name]))
            alone = [path for path in left[giving][name] if copies[facts[path].pixels] == 1]
            if alone and len(left[giving][name]) > 1:
                (path,) = choose(alone, 1, seed=0)
                left[giving][name].remove(path)
                moves[path] = split
    if not moves:
        return index
    note = f"images that were moved into a split with none but bad ones of a class: {len(moves):,}"
    return replace(index.moved(moves), notes=(*index.notes, note))


def _usable(index: Index, facts: Mapping[str, Facts]) -> set[str]:
    """Paths of images that are whole, and of one class alone."""
    classes_of: dict[bytes, set[str]] = defaultdict(set)
    for sample in _samples(index):
        classes_of[facts[sample.path].pixels].add(sample.class_name)
    return {
        path
        for path, found in facts.items()
        if found.pixels
        and len(classes_of[found.pixels]) == 1
        and all(finding.severity != "bad" for finding in found.findings)
    }


def _samples(index: Index) -> list[_Sample]:
    return [
        _Sample(name, path, index.class_names[label])
        for name, split in index.splits.items()
        for path, label in zip(split.paths, split.labels.tolist(), strict=True)
    ]


def _duplicates(samples: Sequence[_Sample], facts: Mapping[str, Facts]) -> Iterator[Problem]:
    def pixels_of(sample: _Sample) -> bytes:
        return facts[sample.path].pixels

    decoded = filter(pixels_of, samples)
    for _, group in itertools.groupby(sorted(decoded, key=pixels_of), key=pixels_of):
        same = list(group)
        if len(same) > 1:
            yield from _same_image(same)


def _same_image(same: Sequence[_Sample]) -> Iterator[Problem]:
    """Problems of samples that decode to the same pixels, in the order of the splits."""
    rest = [sample for sample in same if sample.split == same[-1].split]
    one = rest[0]
    for sample in same[: -len(rest)]:
        what = f"the same image as {printable(one.path)} of the {one.split} images"
        yield Problem(sample.path, "bad", what, "Remove one of the two.", is_leak=True)
    of_another_class = next((s for s in rest if s.class_name != one.class_name), None)
    for sample in rest if of_another_class else rest[1:]:
        if of_another_class:
            other = one if sample.class_name != one.class_name else of_another_class
            what = f"the same image as {printable(other.path)}, which is of another class"
            yield Problem(sample.path, "bad", what, "Keep it in the class that is right.")
        else:
            what = f"the same image as {printable(one.path)}"
            yield Problem(sample.path, "doubtful", what, "Remove one: the image counts double.")


def _digest(samples: Iterable[_Sample], facts: Mapping[str, Facts]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        line = "\0".join((*sample, facts[sample.path].content.hex())) + "\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _refusal(index: Index, bad: Sequence[Problem]) -> DataError:
    advice = "Mend or remove them, or go on without them: --set data.on_bad=skip"
    if all(problem.is_leak for problem in bad):
        advice += "; or keep them: --set data.on_leak=allow"
    num_files = len({problem.path for problem in bad})
    return DataError(
        f"{printable(index.root)}: files that cannot be used: {num_files:,}\n{_listed(bad)}",
        f"{advice}.",
    )


def _listed(problems: Sequence[Problem]) -> str:
    lines = [f"  {printable(p.path)}: {p.what}" for p in problems[:_MOST_LISTED]]
    if (more := len(problems) - _MOST_LISTED) > 0:
        lines.append(f"  and {more:,} more; `cvtrain data check` lists all")
    return "\n".join(lines)


def _refuse_emptied(before: Index, after: Index) -> None:
    for split, counts in before.counts.items():
        left = after.counts.get(split, {})
        emptied = [name for name, count in counts.items() if count and not left.get(name)]
        if emptied:
            raise DataError(
                f"{printable(before.root)}: without the bad files, {split} has no images of class "
                f"{', '.join(map(printable, emptied))}",
                "Mend or replace some of these files: `cvtrain data check` lists them.",
            )
