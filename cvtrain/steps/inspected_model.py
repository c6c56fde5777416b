"""What `visualize` looks at: a model, opened, and the images that it is shown."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cvtrain.backend import versions
from cvtrain.data.index import Split, recorded_index
from cvtrain.data.scan import LeftOut, find_images
from cvtrain.errors import DataError, RunError
from cvtrain.explain.flat_model import FlatModel, open_model, range_at_first_layer
from cvtrain.images.decode import DecodeError, Decoder, largest_size, read_image
from cvtrain.models import foreign_models as formats
from cvtrain.models.saved_model import open_keras_file, weights_digest
from cvtrain.runs.moved_images import recorded_root
from cvtrain.runs.predictions import read_predictions
from cvtrain.runs.record import About
from cvtrain.runs.run import Run
from cvtrain.runs.validation import checked
from cvtrain.steps.dataset import show_left_out
from cvtrain.steps.environment import library_versions
from cvtrain.steps.inference import decoder_of_run, load_saved
from cvtrain.system.console import Console
from cvtrain.system.text import csv_cell, escape

_ABOUT = 25  # of 255: resizing may overshoot
_LEAST_SPAN, _GREATEST_SPAN = 0.1, 300  # of what a network learns from
PIXEL_RANGES = {"0..255": (0.0, 255.0), "0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}


@dataclass(frozen=True)
class InspectedModel:
    """A model that is looked into, whoever made it.

    Attributes:
        name: in a few words.
        digest: `weights_digest` of the model; what `run.json` calls `weights_sha256`.
        opened: the private copy.
        class_names: in the order of its scores.
        decoder: makes the pixels that it takes.
        pixel_range: what 0 and 255 become.
        device: where it runs, in words, as `backend.set_up` returned it.
    """

    name: str
    digest: str
    opened: "FlatModel"
    class_names: tuple[str, ...]
    decoder: Decoder
    pixel_range: tuple[float, float]
    device: str

    def describe(self) -> dict[str, Any]:
        """The part of visualize.json that says what was looked at."""
        return {
            "format": 1,
            "model": self.name,
            "weights_sha256": self.digest,
            "ends_in": self.opened.output,
            "decoder": asdict(self.decoder),
            "pixel_range": list(self.pixel_range),
            "versions": versions() | library_versions(),
        }

    def as_input(self, pixels: np.ndarray) -> np.ndarray:
        """RGB (n, height, width, 3) uint8 -> what the network takes, float32."""
        low, high = self.pixel_range
        images = low + pixels.astype(np.float32) * ((high - low) / 255)
        if self.opened.network.input.shape[-1] == 1:
            # As ITU-R BT.601 has it and Pillow's mode L.
            images = images @ np.array([[0.299], [0.587], [0.114]], np.float32)
        return images


@dataclass(frozen=True)
class ImageRef:
    """An image file to look at.

    Attributes:
        path: where it is.
        name: what it is called in what is written.
        true: its class, if it is known.
    """

    path: Path
    name: str
    true: int | None = None


@dataclass(frozen=True)
class Image:
    """A decoded image.

    Attributes:
        wanted: which.
        pixels: (height, width, 3) uint8, as the model takes it.
        size: (h, w) of the photograph, upright.
        decoder: made the pixels.
    """

    wanted: ImageRef
    pixels: np.ndarray
    size: tuple[int, int]
    decoder: Decoder

    def original(self) -> np.ndarray:
        """The photograph (h, w, 3) uint8; read again, because many of them would fill the memory.

        One of more than `decode.MAX_PIXELS` pixels is as large as it can be decoded.

        Raises:
            DecodeError: it can no longer be read.
        """
        decoder = replace(self.decoder, size=largest_size(*self.size), resize="stretch")
        return decoder(read_image(self.wanted.path)).pixels


def open_run(run: Run, *, device: str) -> InspectedModel:
    """Open the saved model of a run.

    Raises:
        RunError: the run is not usable.
    """
    model = load_saved(run)
    return InspectedModel(
        name=str(run.path),
        digest=weights_digest(model),
        opened=open_model(model),
        class_names=run.record.class_names,
        decoder=decoder_of_run(run),
        pixel_range=PIXEL_RANGES["0..255"],
        device=device,
    )


def open_model_file(
    path: Path, *, pixel_range: str | None, device: str, console: Console
) -> InspectedModel:
    """Open any Keras model of images, whoever trained it.

    The model.keras of a run has its class names in it, and how its images are decoded.

    Args:
        path: a `.keras` file; no code from it runs.
        pixel_range: one of `PIXEL_RANGES`; None: 0..255. A remark is made if it may be wrong.
        device: as `backend.set_up` returned it.
        console: for the remark.

    Raises:
        RunError: the file is missing or damaged, or not a model of images.
    """
    model = open_keras_file(path)
    try:
        opened = open_model(model)
    except RunError as error:
        raise RunError(f"{escape(path)}: {error.message}", error.advice) from error
    height, width, channels = opened.network.input.shape[1:]
    if channels not in (1, 3):
        raise RunError(
            f"{escape(path)}: takes images of {channels} channels",
            "Only grey images and RGB can be read from files.",
        )
    names, decoder = _recorded_in(path, (height, width), opened.network.output.shape[-1])
    if doubt := _doubt_of_pixels(opened, pixel_range):
        console.info(doubt)
    if None in model.inputs[0].shape[1:3]:
        console.info(f"the model takes images of any size, and gets {height} x {width}")
    return InspectedModel(
        name=str(path),
        digest=weights_digest(model),
        opened=opened,
        class_names=names,
        decoder=decoder,
        pixel_range=PIXEL_RANGES[pixel_range or "0..255"],
        device=device,
    )


def _recorded_in(
    path: Path, size: tuple[int, int], num_classes: int
) -> tuple[tuple[str, ...], Decoder]:
    """Class names and decoder as cvtrain wrote them into the file; else numbers, and stretching."""
    about = formats.recorded_about(path)
    if not about:
        return tuple(f"class {i}" for i in range(num_classes)), Decoder(size)
    known = checked(About, about, f"{escape(path)}: metadata.json")
    names, recorded = known.class_names, known.image_size
    if (len(names), recorded) != (num_classes, size):
        raise RunError(
            f"{escape(path)}: returns {num_classes} classes of images of {size}, and its "
            f"metadata.json says {len(names)} and {recorded}",
            "Use the model.keras that the run wrote.",
        )
    return names, Decoder.recorded(recorded, known.decoder.model_dump())


def _doubt_of_pixels(opened: "FlatModel", requested: str | None) -> str:
    """Why the pixels that a model gets may not be those that it was trained on; empty if not.

    Known by what reaches the first layer that learns. Whatever comes from 0..255 as it is was not
    scaled. What was should be of a size that networks learn from, and lie around zero or begin
    there; else the pixels were scaled once too often, or once too little.
    """
    used = requested or "0..255"
    reached = {
        name: found
        for name, each in PIXEL_RANGES.items()
        if (found := range_at_first_layer(opened, *each)) is not None
    }
    if used not in reached or np.allclose(reached["0..255"], (0, 255), atol=_ABOUT):
        return (
            ""
            if requested
            else (
                "the model does not scale pixels, and gets them as 0..255; "
                "if it was trained on others: --pixel-range 0..1 or -1..1"
            )
        )
    off_centre = {
        name: abs(low + high) / (2 * (high - low))
        for name, (low, high) in reached.items()
        if _LEAST_SPAN <= high - low <= _GREATEST_SPAN and abs(low + high) <= 2 * (high - low)
    }
    if used in off_centre or not off_centre:
        return ""
    likely = min(off_centre, key=off_centre.__getitem__)
    low, high = reached[used]
    do = "leave --pixel-range out" if likely == "0..255" else f"--pixel-range {likely}"
    return (
        f"the model scales pixels itself, and {used} become {low:.3g}..{high:.3g}; "
        f"it seems to take {likely}: {do}"
    )


class ImageReader:
    """Images that are read one after the other; those that cannot be read are reported and
    remembered.

    Attributes:
        wanted: all of them.
        unreadable: name of each that could not be read so far, and why.
    """

    def __init__(self, wanted: Sequence[ImageRef], unreadable: Mapping[str, str], console: Console):
        self.wanted = list(wanted)
        self.unreadable: dict[str, str] = {}
        self._console = console
        for name, problem in unreadable.items():
            self._pass_over(name, problem)

    def decoded(self, subject: InspectedModel) -> Iterator[Image]:
        """The images, at the size of the subject's input.

        Raises:
            DataError: at the end, if there was not a single one.
        """
        none = True
        for wanted in self.wanted:
            try:
                small = subject.decoder(read_image(wanted.path))
            except DecodeError as error:
                self._pass_over(wanted.name, error.message)
                continue
            none = False
            yield Image(wanted, small.pixels, (small.height, small.width), subject.decoder)
        if none:
            raise DataError("there is no readable image", "Name image files or folders.")

    def _pass_over(self, name: str, problem: str) -> None:
        self.unreadable[name] = problem
        self._console.warning(f"{escape(name)}: {problem}")


def named_images(paths: Sequence[str], console: Console) -> ImageReader:
    """The images among files, folders and globs."""
    left_out: LeftOut = {}
    found = list(find_images(paths, left_out))
    show_left_out(left_out, console)
    wanted = [ImageRef(Path(each.path), each.path) for each in found if not each.problem]
    return ImageReader(wanted, {each.path: each.problem for each in found if each.problem}, console)


def right_and_wrong(
    run: Run, number: int, seed: int, console: Console, root: Path | None = None
) -> ImageReader:
    """Test images of a run, spread over the classes: mistakes first, up to half of them.

    What is right or wrong is what the run has written.

    Args:
        root: folder that their paths count from; None: as the run recorded it.

    Raises:
        RunError: the run has no predictions or no recorded split.
    """
    split, root = _test_split(run, root)
    predicted = _recorded_predictions(run, split)
    wrong = np.flatnonzero(predicted != split.labels)
    right = np.flatnonzero(predicted == split.labels)
    generator = np.random.default_rng(seed)
    mistakes = _spread(wrong, split.labels, max(number // 2, number - len(right)), generator)
    others = _spread(right, split.labels, number - len(mistakes), generator)
    return ImageReader(_wanted(split, root, [*mistakes, *others]), {}, console)


def from_every_class(
    run: Run, number: int, seed: int, console: Console, root: Path | None = None
) -> ImageReader:
    """Test images of a run, as many of each class as there are, at least two of each.

    Args:
        root: folder that their paths count from; None: as the run recorded it.

    Raises:
        RunError: the run has no recorded split.
    """
    split, root = _test_split(run, root)
    counts = np.bincount(split.labels)
    indices = np.flatnonzero(counts[split.labels] >= 2)
    number = max(number, 2 * int((counts >= 2).sum()))
    chosen = _spread(indices, split.labels, number, np.random.default_rng(seed))
    return ImageReader(_wanted(split, root, chosen), {}, console)


def root_of_test_images(run: Run, data: Path | None, console: Console) -> Path:
    """The folder that the paths of a run's test images count from now, see `recorded_root`."""
    return recorded_root(run, _test_split(run)[0].paths, data=data, warn=console.warning)


def _test_split(run: Run, root: Path | None = None) -> tuple[Split, Path]:
    class_names = run.require("class_names").class_names
    splits = recorded_index(Path(), class_names, run.read_json("split.json")).splits
    if "test" not in splits:
        raise RunError(
            f"{run.path}/split.json: names no test images of this run's classes",
            "Name the images to look at: cvtrain visualize RUN photos/",
        )
    return splits["test"], root or Path(run.require("data").data.root)


def _wanted(split: Split, root: Path, indices: Sequence[int]) -> list[ImageRef]:
    paths, labels = split.paths, split.labels
    return [ImageRef(root / paths[i], paths[i], int(labels[i])) for i in indices]


def _spread(
    indices: np.ndarray, labels: np.ndarray, number: int, generator: np.random.Generator
) -> list[int]:
    """Up to `number` of the places, in turns of one from each class."""
    turns: list[tuple[int, int, int]] = []
    seen: Counter[int] = Counter()
    for place in generator.permutation(indices).tolist():
        label = int(labels[place])
        seen[label] += 1
        turns.append((seen[label], label, place))
    return [place for _, _, place in sorted(turns)[:number]]


def _recorded_predictions(run: Run, split: Split) -> np.ndarray:
    """The class that the run found for each of its test images, in the order of its split."""
    path = run.path / "predictions-test.csv"
    try:
        predictions = read_predictions(path, run.record.class_names)
        if predictions.files != tuple(map(csv_cell, split.paths)):
            raise RunError(f"{path}: cannot be used: it is of other images")
    except RunError as error:
        raise RunError(
            error.message, "Name the images to look at: cvtrain visualize RUN photos/"
        ) from error
    return predictions.predicted
