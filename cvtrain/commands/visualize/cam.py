"""`visualize --cam`: which regions of an image count for a class?"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Pillow

from cvtrain.commands.visualize.map_quality import NUM_IN_THE_CASCADE, Faithfulness, check_sanity
from cvtrain.commands.visualize.output import ResultPage
from cvtrain.commands.visualize.request import ClassChoice, VisualizeRequest, resolve_classes
from cvtrain.explain.explain import METHODS, explainer
from cvtrain.explain.explanation import Explain, Explanation
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
_ACROSS = 6  # pictures of one image on the sheet
_THUMBNAIL = 240  # pixels


def explain_images(
    subject: InspectedModel,
    images: ImageReader,
    look: VisualizeRequest,
    folder: Path,
    *,
    console: Console,
) -> None:
    """Maps of every image and requested class: as arrays, overlays, a sheet and a page.

    Memory holds one batch, independent of the number of images.
    """
    from cvtrain.plots.figures import draw_contact_sheet, save

    opened, method = subject.opened, look.method or "gradcam"
    choice = resolve_classes(look.classes, subject.class_names)
    explain = explainer(opened, method, layer=look.layer, batch_size=BATCH_SIZE, seed=look.seed)
    layer = look.layer
    if METHODS[method].needs_layer and not layer:
        layer = last_spatial_layer(opened)
        console.info(f"layer: {layer} (the last one with maps; choose another with --layer)")
    faithfulness = Faithfulness(opened, BATCH_SIZE) if look.evaluate else None

    output = _Output(subject, folder)
    first: list[tuple[np.ndarray, int]] = []
    size = min(_images_at_once(subject, look, choice.most), max(1, len(images.wanted)))
    decoded = images.decoded(subject)
    with console.task(method) as show:
        while batch := list(itertools.islice(decoded, size)):
            pixels, found, placed = _explain_batch(subject, explain, choice, batch, size)
            probabilities = opened.probabilities(found.scores)
            for i, image in enumerate(batch):
                output.add(image, probabilities[i], found, placed[i], i)
            classes, maps = _of_predicted(found.classes, probabilities, placed, len(batch))
            if faithfulness:
                faithfulness.add(pixels[: len(batch)], classes, maps)
            first += zip(pixels, classes, strict=False)
            del first[NUM_IN_THE_CASCADE:]
            show(len(output.records) + len(images.unreadable), len(images.wanted))
    record = subject.describe() | asdict(look) | {"method": method, "layer": layer}
    record |= {"unreadable": images.unreadable, "images": output.records}
    page, tables = ResultPage(folder), []
    if faithfulness:
        record["faithfulness"], table = faithfulness.report(method, page, console)
        tables.append(table)
    if look.sanity:
        pixels, classes = (np.stack(each) for each in zip(*first, strict=True))
        record["sanity"] = check_sanity(
            opened, method, explain, pixels, classes, seed=look.seed, page=page, console=console
        )
    save(draw_contact_sheet(output.sheet), folder / "sheet.png")
    num_left_out = len(output.records) - len(output.cards)
    page.finish(method, record, cards=output.cards, tables=tables, num_left_out=num_left_out)
    _print_summary(output.records, console)


def _explain_batch(
    subject: InspectedModel,
    explain: Explain,
    choice: ClassChoice,
    batch: Sequence[Image],
    size: int,
) -> tuple[np.ndarray, Explanation, np.ndarray]:
    """Pixels, explanation and placed maps of a batch, its last image repeated up to `size`.

    A placed map has every cell where it looks in the model's input.
    """
    # Always of one size, so that nothing is compiled twice.
    filled = [*batch, *[batch[-1]] * (size - len(batch))]
    pixels = subject.as_input(np.stack([image.pixels for image in filled]))
    true = [image.wanted.true for image in filled]
    found = explain(pixels, lambda scores: choice.of(scores, true))
    if found.box is None:
        return pixels, found, found.maps
    return pixels, found, upsample(found.maps, pixels.shape[1:3], found.box, extend=True)


def _of_predicted(
    classes: np.ndarray, probabilities: np.ndarray, maps: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """Class and map of the prediction for `num` images; of the first class if it is not there."""
    rows = np.arange(num)
    columns = (classes == probabilities.argmax(axis=1)[:, None]).argmax(axis=1)[:num]
    return classes[rows, columns], maps[rows, columns]


def _images_at_once(subject: InspectedModel, look: VisualizeRequest, num_classes: int) -> int:
    """The batch size: one image at a time where it takes many passes, to show the progress."""
    if look.evaluate or METHODS[look.method or "gradcam"].many_passes:
        return 1
    height, width = subject.decoder.size
    return int(np.clip(_MAP_BYTES // (4 * num_classes * height * width), 1, BATCH_SIZE))


class _Output:
    """The files, records and pictures of the images that were explained so far."""

    def __init__(self, subject: InspectedModel, folder: Path):
        self._subject, self._folder = subject, folder
        self.records: list[dict[str, Any]] = []
        self.cards: list[Card] = []
        self.sheet: list[list[Picture]] = []
        (folder / "maps").mkdir()

    def add(
        self,
        image: Image,
        probabilities: np.ndarray,
        found: Explanation,
        placed: np.ndarray,
        i: int,
    ) -> None:
        """Write the maps and overlays of image `i` of an explanation; keep its record and card."""
        names, true = self._subject.class_names, image.wanted.true
        true_name = None if true is None else names[true]
        predicted = int(probabilities.argmax())
        original = image.original()
        size, decoder = original.shape[:2], self._subject.decoder
        box = seen_box(size, decoder.size, decoder.resize)
        map_box = found.box or (0.0, 0.0, *map(float, image.pixels.shape[:2]))
        # One column for each class: the true class may be the predicted one.
        columns = {int(c): j for j, c in enumerate(found.classes[i])}
        num_pictures = sum(1 + len(card.views) for card in self.cards)
        on_the_page = num_pictures + 1 + len(columns) <= _ON_THE_PAGE
        stem = f"{len(self.records):04d}-{safe_name(Path(image.wanted.name).stem)}"
        views, entries = [], []
        panels = [(_thumbnail(original), _caption(image, true_name))]
        for c, j in columns.items():
            name, probability = names[c], float(probabilities[c])
            score, note = float(found.scores[i, c]), found.notes[i][j]
            role = _role(c, predicted, true)
            file = f"maps/{stem}-{c}-{safe_name(name)}"
            blended = overlay(original, upsample(heatmap(placed[j]), size, box))
            np.save(self._folder / f"{file}.npy", found.maps[i, j])
            Pillow.fromarray(blended).save(self._folder / f"{file}.png")
            entries.append(
                {
                    "class": name,
                    "role": role,
                    "score": score,
                    "probability": probability,
                    "note": note,
                    "map": f"{file}.npy",
                    "map_box": list(map_box),
                    "overlay": f"{file}.png",
                }
            )
            panels.append((_thumbnail(blended), f"{name} {probability:.2f}\n{note or role}"))
            if on_the_page:
                views.append(View(name, role, probability, score, note, picture(blended)))
        if len(self.sheet) < _ON_THE_SHEET:
            self.sheet.append(panels[:_ACROSS])
        if on_the_page:
            card = (image.wanted.name, true_name, names[predicted], picture(original))
            self.cards.append(Card(*card, views=tuple(views)))
        self.records.append(
            {
                "file": image.wanted.name,
                "true": true_name,
                "predicted": names[predicted],
                "size": list(image.size),
                "classes": entries,
            }
        )


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    small = Pillow.fromarray(pixels)
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return np.asarray(small)


def _caption(image: Image, true: str | None) -> str:
    name = Path(image.wanted.name).name
    return name if true is None else f"{name}\ntrue class: {true}"


def _role(c: int, predicted: int, true: int | None) -> str:
    roles = [role for role, of in (("predicted", predicted), ("true", true)) if of == c]
    return " and ".join(roles) or "requested"


def _print_summary(records: Sequence[dict[str, Any]], console: Console) -> None:
    notes = [entry["note"] for record in records for entry in record["classes"]]
    if blank := sum(note.startswith("all negative") for note in notes):
        console.warning(
            f"{blank} of {len(notes)} maps are empty: every region counts against the class"
        )
    known = [record for record in records if record["true"] is not None]
    wrong = sum(record["true"] != record["predicted"] for record in known)
    what = f", {wrong} of them misclassified" if known else ""
    console.print(f"{len(records)} images{what}")
