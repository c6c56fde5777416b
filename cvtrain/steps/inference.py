"""Predictions of saved models for images and splits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cvtrain import backend
from cvtrain.backend import inference, keras
from cvtrain.data.batches import ordered_batches
from cvtrain.data.index import Split
from cvtrain.errors import CvtrainError, RunError
from cvtrain.images.decode import Decoder
from cvtrain.images.pixel_cache import PixelCache
from cvtrain.models.saved_model import load_model
from cvtrain.runs.run import Run
from cvtrain.steps.session import RunSession
from cvtrain.system.console import Console
from cvtrain.system.signals import Stop
from cvtrain.system.text import reason_of

BATCH_SIZE = 64


def load_saved(run: Run) -> keras.Model:
    """The saved model of a run.

    Raises:
        RunError: it is missing or damaged, or not the one that the run recorded.
    """
    record = run.require("image_size", "class_names")
    return load_model(
        run.require_model(), image_size=record.image_size, num_classes=len(record.class_names)
    )


def load_predictor(run: Run, stop: Stop) -> Callable[[np.ndarray], np.ndarray]:
    """The saved model of a run, compiled: images (n, h, w, 3) uint8 -> probabilities (n, classes).

    `stop` is polled before every batch; Stopped is raised on request.

    Raises:
        RunError: the model is damaged, or not the one that the run recorded.
    """
    backend.set_up(seed=0)
    infer = backend.inference(load_saved(run))

    def predict(images: np.ndarray) -> np.ndarray:
        stop.raise_if_stopped("evaluating")
        try:
            with backend.memory_errors():
                probabilities = infer(images)
        except CvtrainError:
            raise
        except Exception as error:  # A file that somebody has edited may be a model of anything.
            raise RunError(
                f"{run.model_path}: cannot be run: {reason_of(error)}",
                "It is damaged. Restore the file from a copy, or train again.",
            ) from error
        if not np.isfinite(probabilities).all():
            raise RunError(
                f"{run.model_path}: returns probabilities that are not finite",
                "Its weights are damaged. Restore the file from a copy, or train again.",
            )
        return probabilities

    return predict


def decoder_of_run(run: Run) -> Decoder:
    """The decoder with which a run was trained."""
    record = run.require("image_size", "decoder")
    assert record.decoder is not None
    return Decoder.recorded(record.image_size, record.decoder.model_dump())


def image_predictor(session: RunSession, model: keras.Model) -> Callable[[str], np.ndarray]:
    """A function from the name of a split to the probabilities of its images."""
    predict, dataset = inference(model), session.dataset
    return lambda name: predict_split(
        predict, dataset.pixels, dataset.index.splits[name], session.stop, session.console
    )


def predict_split(
    predict: Callable[[np.ndarray], np.ndarray],
    pixels: PixelCache,
    split: Split,
    stop: Stop,
    console: Console,
) -> np.ndarray:
    """Probabilities (n, classes) float32 of every image of a split, in its order.

    Args:
        predict: as `load_predictor` makes it.

    Raises:
        Stopped: a stop was requested.
    """
    results = []
    with console.task("evaluating") as show:
        for i, (images, _) in enumerate(ordered_batches(pixels, split, batch_size=BATCH_SIZE)):
            stop.raise_if_stopped("evaluating")
            results.append(predict(images))
            show(min((i + 1) * BATCH_SIZE, len(split.paths)), len(split.paths))
    return np.concatenate(results)
