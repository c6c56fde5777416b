"""`cvtrain predict`: classify image files with a run."""

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cvtrain.data.scan import Found, LeftOut, find_images
from cvtrain.errors import DataError
from cvtrain.evaluation.calibration import with_temperature
from cvtrain.images.decode import DecodeError, Decoder, read_image
from cvtrain.runs.run import Run
from cvtrain.steps.abstention import UNKNOWN, describe_abstention, read_abstention
from cvtrain.steps.dataset import show_left_out
from cvtrain.steps.inference import decoder_of_run, load_predictor
from cvtrain.steps.tta import view_average
from cvtrain.system.console import Console
from cvtrain.system.files import committed
from cvtrain.system.machine import num_threads
from cvtrain.system.outputs import check_replaceable
from cvtrain.system.signals import Stop, stop_on_signals
from cvtrain.system.text import csv_text, escape, shell_quote

Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Images (n, h, w, 3) uint8 -> probabilities (n, classes) and predicted names (n,)."""

_ROWS_PER_TABLE = 1000
_COLUMNS = ("file", "prediction", "confidence", "error")
# The first bytes of the files that `_csv_writer` and `_json_writer` write.
_OURS = re.compile(
    rb'\A(file,prediction,confidence,error,p\(|\[\n\{"file": ".*", "(prediction|error)": )'
)


@dataclass(frozen=True)
class Prediction:
    """The prediction of a run for one image.

    Attributes:
        path: The path as it was given; empty for an array.
        probabilities: (classes,) float32, with the temperature of `cvtrain calibrate` if the run
            has one; None if the file cannot be read.
        answer: The most probable class, or "unknown"; empty if the file cannot be read.
        problem: The reason why the file cannot be read; empty otherwise.
    """

    path: str
    probabilities: np.ndarray | None
    answer: str = ""
    problem: str = ""


def predict(
    run: Run,
    paths: Sequence[str],
    *,
    top: int,
    output: Path | None,
    batch_size: int,
    console: Console,
    tta: int = 1,
    force: bool = False,
) -> None:
    """Classify files, folders and glob patterns, with only a few batches in memory.

    If `cvtrain calibrate` has set a threshold, the prediction below it is "unknown".

    Args:
        run: a run with a saved model.
        paths: the files, folders and patterns.
        top: the number of classes for each file in the table and in `top` of JSON.
        output: the `.csv` or `.json` file to write (default: print a table).
        batch_size: the number of images in a batch.
        tta: the number of views of each image to average over, see `steps.tta`.
        force: whether to replace any file; otherwise only earlier predictions are replaced.

    Raises:
        ConfigError: the run has no such views, or `output` may not be replaced.
        RunError: the run cannot be used.
        DataError: at least one file could not be read; all others are classified.
        Stopped: on request; `output` is not written.
    """
    if output is not None:
        check_replaceable(output, force=force, ours=_OURS)
    class_names = run.require("class_names").class_names
    decoder = decoder_of_run(run)
    abstention = read_abstention(run)
    if abstention:
        console.info(
            f"{describe_abstention(abstention)} "
            f"(to remove the threshold: cvtrain calibrate {shell_quote(run.path)} --off)"
        )
        if tta > 1:
            console.warning("the threshold was chosen for predictions without --tta")
    num_bad = num_done = 0
    to_write = _writer(output, class_names, top, console, abstains=abstention is not None)
    with stop_on_signals() as stop, to_write as write:
        answer = classifier_of(run, stop, tta=tta)
        left_out: LeftOut = {}
        found = find_images(paths, left_out)
        for predictions in classify_files(answer, decoder, found, batch_size):
            stop.raise_if_stopped("predicting")
            write(predictions)
            for prediction in predictions:
                num_done += 1
                if prediction.problem:
                    num_bad += 1
                    console.warning(f"{escape(prediction.path)}: {prediction.problem}")
    show_left_out(left_out, console)
    if output:
        console.print(f"{num_done - num_bad:,} predictions written to {output}")
    if num_bad:
        rest = "; all others are classified" if num_bad < num_done else ""
        raise DataError(f"{num_bad:,} of {num_done:,} files could not be read{rest}")


def classifier_of(run: Run, stop: Stop, *, tta: int = 1) -> Answer:
    """The saved model of a run, with its threshold if `cvtrain calibrate` has set one.

    Args:
        run: a run with a saved model.
        stop: the request to stop, which is polled before every batch.
        tta: the number of views of each image to average over.

    Raises:
        ConfigError: the run has no such views.
        RunError: the run cannot be used.
    """
    average, abstention = view_average(run, tta), read_abstention(run)
    infer = average(load_predictor(run, stop))
    names = np.array(run.record.class_names, dtype=object)

    def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities = infer(images)
        if abstention is None:
            return probabilities, names[probabilities.argmax(axis=1)]
        probabilities = with_temperature(probabilities, abstention.temperature)
        best = names[probabilities.argmax(axis=1)]
        return probabilities, np.where(abstention.answers(probabilities), best, UNKNOWN)

    return answer


def classify_files(
    answer: Answer, decoder: Decoder, found: Iterator[Found], batch_size: int
) -> Iterator[list[Prediction]]:
    """Yield the predictions of each batch; the next batch is decoded meanwhile.

    Args:
        answer: the model, from `classifier_of`.
        decoder: the decoder of the run.
        found: the files, from `find_images`.
        batch_size: the number of images in a batch.
    """

    def decode(one: Found) -> np.ndarray | str:
        if one.problem:
            return one.problem
        try:
            return decoder(read_image(Path(one.path))).pixels
        except DecodeError as error:
            return error.message

    with ThreadPoolExecutor(num_threads()) as pool:

        def start() -> tuple[list[Found], Iterator[np.ndarray | str]]:
            batch = list(islice(found, batch_size))
            return batch, pool.map(decode, batch)

        batch, decoded = start()
        while batch:
            following = start()
            yield _predict_batch(answer, batch, list(decoded))
            batch, decoded = following


def _predict_batch(
    answer: Answer, batch: list[Found], decoded: list[np.ndarray | str]
) -> list[Prediction]:
    good = [pixels for pixels in decoded if not isinstance(pixels, str)]
    rows = zip(*answer(np.stack(good)), strict=True) if good else iter(())
    return [
        Prediction(one.path, None, problem=pixels)
        if isinstance(pixels, str)
        else Prediction(one.path, *next(rows))
        for one, pixels in zip(batch, decoded, strict=True)
    ]


Write = Callable[[list[Prediction]], None]


@contextlib.contextmanager
def _writer(
    output: Path | None, class_names: Sequence[str], top: int, console: Console, *, abstains: bool
) -> Iterator[Write]:
    """Yield a function that writes batches of predictions to a table, a CSV or a JSON file."""
    if output is None:
        with _table_writer(class_names, top, console, abstains=abstains) as write:
            yield write
        return
    formats = {".csv": _csv_writer, ".json": _json_writer}
    # A name that is not UTF-8 becomes an escape such as `\udce9`, which JSON reads back.
    with (
        committed(output) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
        formats[output.suffix.lower()](file, class_names, top) as write,
    ):
        yield write


@contextlib.contextmanager
def _table_writer(
    class_names: Sequence[str], top: int, console: Console, *, abstains: bool
) -> Iterator[Write]:
    top = min(top, len(class_names))
    columns = ["file", "prediction"] if abstains else ["file"]
    for rank in range(1, top + 1):
        columns += [f"class {rank}", f"p {rank}"]
    rows: list[list[str]] = []

    def write(predictions: list[Prediction]) -> None:
        for prediction in predictions:
            cells = [escape(prediction.path), *([prediction.answer] if abstains else [])]
            if prediction.probabilities is not None:
                for name, p in _top(prediction.probabilities, class_names, top):
                    cells += [name, f"{p:.4f}"]
            rows.append(cells + ["-"] * (len(columns) - len(cells)))
        if len(rows) >= _ROWS_PER_TABLE:
            console.table(columns, rows)
            rows.clear()

    yield write
    if rows:
        console.table(columns, rows)


@contextlib.contextmanager
def _csv_writer(file: TextIO, class_names: Sequence[str], top: int) -> Iterator[Write]:  # noqa: ARG001
    columns = [*_COLUMNS, *(f"p({name})" for name in class_names)]
    file.write(csv_text([columns]))

    def write(predictions: list[Prediction]) -> None:
        rows = []
        for prediction in predictions:
            p = prediction.probabilities
            if p is None:
                rows.append(
                    [prediction.path, "", "", prediction.problem, *("" for _ in class_names)]
                )
            else:
                values = [f"{value:.9g}" for value in p]
                confidence = values[p.argmax()]
                rows.append([prediction.path, prediction.answer, confidence, "", *values])
        file.write(csv_text(rows))

    yield write


@contextlib.contextmanager
def _json_writer(file: TextIO, class_names: Sequence[str], top: int) -> Iterator[Write]:
    separator = "[\n"

    def write(predictions: list[Prediction]) -> None:
        nonlocal separator
        for prediction in predictions:
            entry = json.dumps(_as_json(prediction, class_names, top), ensure_ascii=False)
            file.write(separator + entry)
            separator = ",\n"

    yield write
    file.write("[]\n" if separator == "[\n" else "\n]\n")


def _as_json(prediction: Prediction, class_names: Sequence[str], top: int) -> dict[str, Any]:
    if prediction.probabilities is None:
        return {"file": prediction.path, "error": prediction.problem}
    best = _top(prediction.probabilities, class_names, top)
    return {
        "file": prediction.path,
        "prediction": prediction.answer,
        "confidence": best[0][1],
        "top": [{"class": name, "probability": p} for name, p in best],
        "probabilities": {
            name: _decimal(p) for name, p in zip(class_names, prediction.probabilities, strict=True)
        },
    }


def _top(
    probabilities: np.ndarray, class_names: Sequence[str], number: int
) -> list[tuple[str, float]]:
    """The `number` most probable classes, best first."""
    order: Iterable[int] = np.argsort(-probabilities, kind="stable")[:number].tolist()
    return [(class_names[i], _decimal(probabilities[i])) for i in order]


def _decimal(p: np.floating) -> float:
    """A decimal of nine digits, from which the float32 can be restored exactly."""
    return float(f"{p:.9g}")
