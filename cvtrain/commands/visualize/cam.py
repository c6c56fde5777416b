"""`visualize --cam`: which places of an image speak for a class?"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Pillow

from cvtrain.commands.visualize.map_quality import NUM_IN_THE_CASCADE, Faithfulness, check_sanity
from cvtrain.commands.visualize.output import ResultPage
from cvtrain.commands.visualize.request import ClassChoice, VisualizeRequest, resolve_classes
from cvtrain.explain.explain import METHODS, Explain, explainer
from cvtrain.explain.flat_model import last_spatial_layer
from cvtrain.explain.overlay import heatmap, overlay, seen_box, upsample
from cvtrain.explain.page import Card, View
from cvtrain.steps.inspected_model import Image, ImageReader, InspectedModel
from cvtrain.system.console import Console
from cvtrain.system.html import picture
from cvtrain.system.text import safe_name

if TYPE_CHECKING:
    from cvtrain.plots.figures import Picture

BATCH_SIZE = 16
_MAP_BYTES = 2**26  # of the maps of a batch
_ON_THE_PAGE = 120  # pictures
_ON_THE_SHEET = 24  # images
_ACROSS = 6  # panels of one of them, at most
_THUMBNAIL = 240  # pixels


@dataclass
class _Findings:
    """What becomes known image by image, and what the end of the command needs of it."""

    records: list[dict[str, Any]] = field(default_factory=list)
    cards: "list[Card]" = field(default_factory=list)
    panels: "list[list[Picture]]" = field(default_factory=list)
    first: list[tuple[np.ndarray, int]] = field(default_factory=list)


def explain_images(
    subject: InspectedModel,
    images: ImageReader,
    look: VisualizeRequest,
    folder: Path,
    *,
    console: Console,
) -> None:
    """Maps of every image and class that is asked for: as arrays, overlays, a sheet and a page.

    Memory holds one batch, whatever the number of images.
    """
    from cvtrain.plots.figures import draw_contact_sheet, save

    opened, method = subject.opened, look.method or "gradcam"
    choice = resolve_classes(look.classes, subject.class_names)
    explain = explainer(opened, method, layer=look.layer, batch_size=BATCH_SIZE, seed=look.seed)
    layer = look.layer
    if METHODS[method].needs_layer and not layer:
        layer = last_spatial_layer(opened)
        console.remark(f"layer: {layer} (the last one with maps; choose another with --layer)")
    faithfulness = Faithfulness(opened, BATCH_SIZE) if look.evaluate else None
    (folder / "maps").mkdir()

    found = _Findings()
    size = min(_images_at_once(subject, look, choice.most), max(1, len(images.wanted)))
    ask = _asker(subject, explain, choice, size)
    decoded = images.decoded(subject)
    with console.task(method) as show:
        while batch := list(itertools.islice(decoded, size)):
            pixels, probabilities, answers = ask(batch)
            for image, row, each in zip(batch, probabilities, answers, strict=True):
                _write(subject, image, row, each, folder, found)
            main = [_of_predicted(*each) for each in zip(answers, probabilities, strict=True)]
            classes = np.array([answer.class_index for answer in main])
            if faithfulness:
                maps = np.stack([answer.placed for answer in main])
                faithfulness.add(pixels, classes, maps)
            found.first += zip(pixels, classes, strict=True)
            del found.first[NUM_IN_THE_CASCADE:]
            show(len(found.records) + len(images.unreadable), len(images.wanted))
    record = subject.describe() | asdict(look) | {"method": method, "layer": layer}
    record |= {"unreadable": images.unreadable, "images": found.records}
    page, tables = ResultPage(folder), []
    if faithfulness:
        record["faithfulness"], table = faithfulness.tell(method, page, console)
        tables.append(table)
    if look.sanity:
        pixels, classes = (np.stack(each) for each in zip(*found.first, strict=True))
        record["sanity"] = check_sanity(
            opened, method, explain, pixels, classes, seed=look.seed, page=page, console=console
        )
    save(draw_contact_sheet(found.panels), folder / "sheet.png")
    num_left_out = len(found.records) - len(found.cards)
    page.finish(method, record, cards=found.cards, tables=tables, num_left_out=num_left_out)
    _print_summary(found, console)


@dataclass(frozen=True)
class _Answer:
    """What a method says of one class in one image.

    Attributes:
        class_index: which class.
        raw: the map as the method made it.
        box: the part of the model's input that it covers: top, left, height, width in pixels.
        placed: the map, every cell where it looked in the model's input.
        score: of the class.
        note: on the map; mostly empty.
    """

    class_index: int
    raw: np.ndarray
    box: tuple[float, float, float, float]
    placed: np.ndarray
    score: float
    note: str


def _asker(
    subject: InspectedModel, explain: "Explain", choice: ClassChoice, size: int
) -> "Callable[[Sequence[Image]], tuple[np.ndarray, np.ndarray, list[list[_Answer]]]]":
    """What asks a method about a batch of up to `size` images.

    It returns the pixels as the model takes them, the probabilities (n, classes), and for each
    image the answers, one for each of its classes.
    """

    def ask(batch: Sequence[Image]) -> tuple[np.ndarray, np.ndarray, list[list[_Answer]]]:
        # Always of one size, so that nothing is compiled twice.
        filled = [*batch, *[batch[-1]] * (size - len(batch))]
        pixels = subject.as_input(np.stack([image.pixels for image in filled]))
        true = [image.wanted.true for image in filled]
        found = explain(pixels, lambda scores: choice.of(scores, true))
        maps = found.maps
        if found.box:
            maps = upsample(maps, pixels.shape[1:3], found.box, extend=True)
        box = found.box or (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[2]))
        rows = zip(found.scores, found.classes, found.maps, maps, found.notes, strict=True)
        answers = [
            [
                _Answer(int(c), raw, box, each, float(scores[c]), note)
                # The true class may be the predicted one.
                for c, raw, each, note in {
                    row[0]: row for row in zip(*of_classes, strict=True)
                }.values()
            ]
            for scores, *of_classes in itertools.islice(rows, len(batch))
        ]
        n = len(batch)
        return pixels[:n], subject.opened.probabilities(found.scores[:n]), answers

    return ask


def _of_predicted(answers: Sequence[_Answer], probabilities: np.ndarray) -> _Answer:
    """The answer on the predicted class, or on the first one that was asked."""
    predicted = int(probabilities.argmax())
    return next((each for each in answers if each.class_index == predicted), answers[0])


def _images_at_once(subject: InspectedModel, look: VisualizeRequest, num_classes: int) -> int:
    """What takes many passes for an image is done one at a time, to show how far it is."""
    if look.evaluate or METHODS[look.method or "gradcam"].many_passes:
        return 1
    height, width = subject.decoder.size
    return int(np.clip(_MAP_BYTES // (4 * num_classes * height * width), 1, BATCH_SIZE))


def _write(
    subject: InspectedModel,
    image: Image,
    probabilities: np.ndarray,
    answers: Sequence[_Answer],
    folder: Path,
    found: _Findings,
) -> None:
    """The maps and overlays of one image, its record, and its card for the page."""
    original = image.original()
    size = original.shape[:2]
    box = seen_box(size, subject.decoder.size, subject.decoder.resize)
    names, true = subject.class_names, image.wanted.true
    predicted = int(probabilities.argmax())
    number = len(found.records)
    stem = f"{number:04d}-{safe_name(Path(image.wanted.name).stem)}"
    on_the_page = _num_pictures(found.cards) + 1 + len(answers) <= _ON_THE_PAGE
    views, entries = [], []
    true_name = None if true is None else names[true]
    panels = [(_thumbnail(original), _caption(image, true_name))]
    for answer in answers:
        c = answer.class_index
        name, probability = names[c], float(probabilities[c])
        file = f"maps/{stem}-{c}-{safe_name(name)}"
        blended = overlay(original, upsample(heatmap(answer.placed), size, box))
        np.save(folder / f"{file}.npy", answer.raw)
        Pillow.fromarray(blended).save(folder / f"{file}.png")
        role = _role(c, predicted, true)
        entries.append(
            {
                "class": name,
                "role": role,
                "score": answer.score,
                "probability": probability,
                "note": answer.note,
                "map": f"{file}.npy",
                "map_box": list(answer.box),
                "overlay": f"{file}.png",
            }
        )
        panels.append((_thumbnail(blended), f"{name} {probability:.2f}\n{answer.note or role}"))
        if on_the_page:
            seen = picture(blended)
            views.append(View(name, role, probability, answer.score, answer.note, seen))
    found.records.append(
        {
            "file": image.wanted.name,
            "true": true_name,
            "predicted": names[predicted],
            "size": list(image.size),
            "classes": entries,
        }
    )
    if number < _ON_THE_SHEET:
        found.panels.append(panels[:_ACROSS])
    if on_the_page:
        record = found.records[-1]
        found.cards.append(
            Card(
                file=record["file"],
                true=record["true"],
                predicted=record["predicted"],
                picture=picture(original),
                views=tuple(views),
            )
        )


def _num_pictures(cards: "Sequence[Card]") -> int:
    return sum(1 + len(card.views) for card in cards)


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    small = Pillow.fromarray(pixels)
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return np.asarray(small)


def _caption(image: Image, true: str | None) -> str:
    name = Path(image.wanted.name).name
    return name if true is None else f"{name}\ntrue class: {true}"


def _role(c: int, predicted: int, true: int | None) -> str:
    roles = [role for role, of in (("predicted", predicted), ("true", true)) if of == c]
    return " and ".join(roles) or "asked"


def _print_summary(found: _Findings, console: Console) -> None:
    notes = [entry["note"] for record in found.records for entry in record["classes"]]
    blank = sum(note.startswith("all negative") for note in notes)
    if blank:
        console.warn(
            f"{blank} of {len(notes)} maps are empty: every region counts against the class"
        )
    known = [record for record in found.records if record["true"] is not None]
    wrong = sum(record["true"] != record["predicted"] for record in known)
    what = f", {wrong} of them mistakes" if known else ""
    console.result(f"{len(found.records)} images{what}")
