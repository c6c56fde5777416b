"""Check before training that each image is usable, and that none is in two splits.

The result of each file is cached until the file or the decoder changes, so a second check takes a
fraction of the first. The first one keeps the decoded pixels for training.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cvtrain.data.check_cache import CheckCache, FileCheck, Issue, file_state
from cvtrain.data.contrast import LOW, advised, examine_contrast, range_of_all
from cvtrain.data.index import Index
from cvtrain.data.problems import (
    Problem,
    Sample,
    duplicates,
    same_classes,
    samples_of,
    too_few_different,
)
from cvtrain.errors import DataError
from cvtrain.images.decode import ADVICE_ON, Decoded, DecodeError, read_image
from cvtrain.images.file_types import CONVERT, advice_in
from cvtrain.images.pixel_cache import PixelCache
from cvtrain.system.machine import num_threads
from cvtrain.system.signals import NEVER, Stop
from cvtrain.system.text import escape

_FILES_AT_ONCE = 128  # are stored in the cache together
_DOING = "checking the images"
_MOST_LISTED = 20
_SMALLEST = 8  # pixels; the smallest set in use, scikit-learn's digits, has 8x8
_FORMAT_OF_SUFFIX = dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG")
_FORMAT_OF_SUFFIX |= {".png": "PNG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}


@dataclass(frozen=True)
class CheckReport:
    """The result of a check.

    Attributes:
        index: The checked index, with its splits drawn among different, usable images.
        problems: Problems of files in the order of the index, duplicates last.
        same_classes, too_few: Errors that prevent training even without the bad files, or None:
            classes hold the same images, or have too few different images to be split.
        images: Digest by path, equal for copies of one image; only of files that can be decoded.
        range: The `data.range` without which most images have no contrast; None if not needed.
        digest: SHA-256 over split, path, class and content of every file, in hexadecimal digits.
        num_files: Number of checked files.
        num_decoded: Number of files that had to be decoded because they were not in the cache.
    """

    index: Index
    problems: tuple[Problem, ...]
    same_classes: DataError | None
    too_few: DataError | None
    images: Mapping[str, bytes]
    range: tuple[int, int] | None
    digest: str
    num_files: int
    num_decoded: int


def check_index(
    index: Index,
    pixels: PixelCache,
    *,
    on_leak: str = "error",
    stop: Stop = NEVER,
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Check every file of an index, and draw its splits again with the results.

    Args:
        index: The index of the files.
        pixels: Cache that decodes the files and keeps their pixels; its `digests` are set.
        on_leak: "allow" to split training images that the source also has in another split.
        stop: Stop request, polled before every file.
        on_progress: Function called with the numbers of checked files and of all.

    Raises:
        Stopped: A stop was requested; the results so far are cached.
    """
    paths = [path for split in index.splits.values() for path in split.paths]
    checks, num_decoded = _check_files(paths, pixels, stop, on_progress)
    if others := _possible_replacements(index, checks):
        uncached = PixelCache(pixels.root, pixels.decoder, memory_limit=0)
        more, num_more = _check_files(others, uncached, stop, on_progress)
        checks, num_decoded = checks | more, num_decoded + num_more
    pixels.digests = {path: check.pixels for path, check in checks.items() if check.pixels}
    images = {path: check.image for path, check in checks.items() if check.pixels}
    index = index.reassign_splits(images, _damaged(checks), on_leak=on_leak)
    samples = samples_of(index)
    limits = range_of_all(checks.values())
    problems = [
        Problem(sample.path, severity, what, advice_in(index.root, advice))
        for sample in samples
        for severity, what, advice in advised(checks[sample.path].findings, limits)
    ]
    problems += duplicates(samples, images)
    return CheckReport(
        index,
        tuple(problems),
        same_classes=same_classes(index, images),
        too_few=too_few_different(index, problems),
        images=images,
        range=limits,
        digest=_digest(samples, checks),
        num_files=len(samples),
        num_decoded=num_decoded,
    )


def resolve(
    index: Index, report: CheckReport, *, on_bad: str, on_leak: str
) -> tuple[Index, list[str]]:
    """The index for training, and messages for the user.

    Args:
        index: The checked index.
        report: The result of the check.
        on_bad: "error", or "skip" to leave out bad files; a leaked image is kept in the later
            split.
        on_leak: "error", or "allow" to keep images that are in two splits.

    Raises:
        DataError: There are bad files or leaks and they are not skipped, or too few images are
            left without them.
    """
    bad = [problem for problem in report.problems if problem.severity == "bad"]
    num_leaks = sum(problem.is_leak for problem in bad)
    messages = _contrast_message(report)
    if num_leaks and on_leak == "allow":
        bad = [problem for problem in bad if not problem.is_leak]
        messages.append(
            f"{num_leaks:,} images appear in two splits: the metrics will be too optimistic"
        )
    if report.same_classes:
        raise report.same_classes
    # If nothing is left because a format is not supported, the advice to convert helps more.
    if bad and (on_bad == "error" or (report.too_few and _conversion(bad))):
        raise _refusal(index, bad, report.too_few)
    if report.too_few:
        raise report.too_few
    if not bad:
        return index, messages
    paths = dict.fromkeys(problem.path for problem in bad)
    messages.append(f"left out, because they cannot be used: {len(paths):,}\n{_listed(bad)}")
    kept = index.without(paths.keys())
    _check_not_emptied(index, kept, bad)
    return kept, messages


def _check_files(
    paths: Sequence[str],
    pixels: PixelCache,
    stop: Stop,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, FileCheck], int]:
    """The check of each path, and the number of files that had to be decoded for them."""

    def examine(path: str) -> FileCheck:
        stop.raise_if_stopped(_DOING)  # before every file: a large photograph takes a second
        return _examine(path, pixels)

    checks: dict[str, FileCheck] = {}
    num_decoded = 0
    with CheckCache(pixels.decoder) as cache, ThreadPoolExecutor(num_threads()) as pool:
        for start in range(0, len(paths), _FILES_AT_ONCE):
            stop.raise_if_stopped(_DOING)
            part = paths[start : start + _FILES_AT_ONCE]
            # The state is taken before the file is read, so the next check notices a change in
            # between.
            states = {path: file_state(pixels.root.absolute() / path) for path in part}
            cached = {path: state and cache.get(state) for path, state in states.items()}
            unknown = [path for path, check in cached.items() if check is None]
            fresh = dict(zip(unknown, pool.map(examine, unknown), strict=True))
            cache.put(
                (state, check)
                for path, check in fresh.items()
                if (state := states[path]) and check.content
            )
            checks |= {path: check or fresh[path] for path, check in cached.items()}
            num_decoded += len(unknown)
            if on_progress is not None:
                on_progress(len(checks), len(paths))
    return checks, num_decoded


def _possible_replacements(index: Index, checks: Mapping[str, FileCheck]) -> list[str]:
    """Paths outside of a subset that may replace copies or damaged files in it."""
    if index.assignment is None or index.assignment.train_per_class is None:
        return []
    if not _damaged(checks) and len({check.image for check in checks.values()}) == len(checks):
        return []
    return [path for path in index.assignment.paths if path not in checks]


def _damaged(checks: Mapping[str, FileCheck]) -> set[str]:
    return {
        path
        for path, check in checks.items()
        if any(finding.severity == "bad" for finding in check.findings)
    }


def _contrast_message(report: CheckReport) -> list[str]:
    """A message, with an example, if most images need a `data.range`."""
    low = [problem for problem in report.problems if problem.what.startswith(LOW)]
    if not report.range or not low:
        return []
    return [
        f"{LOW} in {len(low):,} of {report.num_files:,} images ({escape(low[0].path)}:"
        f"{low[0].what.removeprefix(f'{LOW}:')}): `cvtrain data check` says what to do"
    ]


def _examine(path: str, pixels: PixelCache) -> FileCheck:
    """Read, digest and decode one file; `pixels` keeps the decoded image."""
    findings = []
    if any("\udc80" <= c <= "\udcff" for c in path):  # bytes that are not UTF-8
        findings.append(Issue("bad", "the name is not UTF-8", "Rename the file or its folder."))
    content_digest = pixels_digest = b""
    values, is_empty = None, False
    try:
        content = read_image(pixels.root / path)
        content_digest = hashlib.sha256(content).digest()
        decoded = pixels.decoder(content)
        pixels_digest = hashlib.sha256(decoded.pixels.data).digest()
        findings += _doubts(path, decoded)
        doubt, values = examine_contrast(content, decoded, pixels.decoder)
        if is_empty := doubt is not None:
            findings.append(doubt)
        pixels.keep(path, decoded.pixels)
    except DecodeError as error:
        findings.append(Issue("bad", error.message, error.advice))
    return FileCheck(content_digest, pixels_digest, tuple(findings), values, is_empty)


def _doubts(path: str, decoded: Decoded) -> Iterator[Issue]:
    suffix = Path(path).suffix.lower()
    if suffix and decoded.format != _FORMAT_OF_SUFFIX.get(suffix):
        right = next(s for s, f in _FORMAT_OF_SUFFIX.items() if f == decoded.format)
        yield Issue("doubtful", f"{decoded.format} by its content", f"Let its name end in {right}.")
    for note in decoded.notes:
        yield Issue("doubtful", note, ADVICE_ON[note])
    if min(decoded.width, decoded.height) < _SMALLEST:
        yield Issue(
            "doubtful",
            f"only {decoded.width}x{decoded.height} pixels",
            "Replace it by a larger one, or remove it.",
        )


def _digest(samples: Iterable[Sample], checks: Mapping[str, FileCheck]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        line = "\0".join((*sample, checks[sample.path].content.hex())) + "\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def how_to_continue(bad: Sequence[Problem], too_few: DataError | None) -> str:
    """Advice on bad files; `too_few` is the error if training is impossible without them."""
    convert = _conversion(bad)
    if too_few:
        return convert or "Repair or replace them, or add others: without them there are too few"
    skip = "go on without them: --set data.on_bad=skip"
    return f"{convert}\n  Or {skip}" if convert else f"Repair or remove them, or {skip}"


def _conversion(bad: Sequence[Problem]) -> str:
    """Advice to convert the files if that is the most frequent advice; else empty."""
    (commonest, _), *_ = Counter(problem.advice for problem in bad).most_common(1)
    return commonest if commonest.startswith(CONVERT) else ""


def _refusal(index: Index, bad: Sequence[Problem], too_few: DataError | None) -> DataError:
    num_files = len({problem.path for problem in bad})
    what = f"{escape(index.root)}: files that cannot be used: {num_files:,}\n{_listed(bad)}"
    advice = how_to_continue(bad, too_few)
    if all(problem.is_leak for problem in bad):
        advice += "; or keep them: --set data.on_leak=allow"
    end = "" if advice.endswith(_conversion(bad) or "?") else "."  # it ends in a command
    return DataError(f"{what}\n{too_few.message}" if too_few else what, f"{advice}{end}")


def _listed(problems: Sequence[Problem]) -> str:
    lines = [f"  {escape(p.path)}: {p.what}" for p in problems[:_MOST_LISTED]]
    if (more := len(problems) - _MOST_LISTED) > 0:
        lines.append(f"  and {more:,} more; `cvtrain data check` lists all")
    return "\n".join(lines)


def _check_not_emptied(before: Index, after: Index, bad: Sequence[Problem]) -> None:
    repair = "Repair or replace some of these files: `cvtrain data check` lists them."
    for split, counts in before.counts.items():
        left = after.counts.get(split, {})
        emptied = [name for name, count in counts.items() if count and not left.get(name)]
        if emptied:
            raise DataError(
                f"{escape(before.root)}: without the bad files, {split} has no images of class "
                f"{', '.join(map(escape, emptied))}\n{_listed(bad)}",
                _conversion(bad) or repair,
            )
