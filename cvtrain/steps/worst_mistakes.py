"""The worst mistakes with class-activation maps, in `mistakes/` of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cvtrain.backend import keras
from cvtrain.data.index import Split
from cvtrain.errors import ConfigError, CvtrainError, ResourceError, Stopped
from cvtrain.evaluation.metrics import worst_mistakes
from cvtrain.explain.explain import explainer
from cvtrain.explain.flat_model import last_spatial_layer, open_model
from cvtrain.explain.overlay import heatmap, overlay, seen_box, upsample
from cvtrain.images.decode import Decoder, read_image
from cvtrain.steps.session import RunSession
from cvtrain.system.files import commit_json, committed_folder

LIST = "mistakes.json"
METHOD = "gradcam"
_BATCH_SIZE = 8
_DOING = "explaining the mistakes"
_MOST_PIXELS, _FEWEST_PIXELS = 480, 160  # of the longer side of a picture


def explain_mistakes(
    session: RunSession, model: keras.Model, probabilities: np.ndarray
) -> dict[str, Any]:
    """Write the worst mistakes among the test images, each with two class-activation maps.

    The maps are those of Grad-CAM for the true and the predicted class, computed with a copy of the
    model. An error becomes a warning and only the pictures are missing.

    Args:
        model: the saved model.
        probabilities: (n, classes) of the saved model for the test images.

    Returns:
        The field `mistakes` of run.json: `num`, `method`, and `layer` or `without_maps`, the reason
        for which there are no maps.

    Raises:
        ResourceError: the disk is full.
        Stopped: on request; `--resume` explains them.
    """
    split = session.dataset.index.splits["test"]
    worst = worst_mistakes(split.labels, probabilities)
    record: dict[str, Any] = {"num": len(worst), "method": METHOD}
    try:
        with session.watch.phase("explain"):
            return record | _write(session, model, split, worst, probabilities)
    except (Stopped, ResourceError):
        raise
    except Exception as error:  # Hours of training must not be lost for pictures.
        reason = error.message if isinstance(error, CvtrainError) else repr(error)
        session.console.warning(f"the worst mistakes are not explained: {reason}")
        return record | {"without_maps": reason}


def _write(
    session: RunSession,
    model: keras.Model,
    split: Split,
    worst: Sequence[int],
    probabilities: np.ndarray,
) -> dict[str, Any]:
    """Commit the folder `mistakes/`; return the layer of the maps, or why there are none."""
    names = session.dataset.index.class_names
    predicted = probabilities.argmax(axis=1)
    classes = np.stack([split.labels, predicted], axis=1)[worst]
    pixels = [session.dataset.pixels[split.paths[i]] for i in worst]
    try:
        found, how = _maps(session, model, pixels, classes) if worst else (None, {})
    except ResourceError as error:  # too little memory; a full disk is met below
        session.console.warning(f"no maps of the worst mistakes: {error.message}")
        found, how = None, {"without_maps": error.message}
    entries = []
    with committed_folder(session.run.path / "mistakes", mark=LIST) as folder:
        for number, i in enumerate(worst):
            session.stop.raise_if_stopped(_DOING)
            maps = None if found is None else found[number]
            files = _pictures(session, split.paths[i], maps, folder, f"{number:02d}")
            true = split.labels[i]
            entries.append(
                {
                    "file": split.paths[i],
                    "true": names[true],
                    "predicted": names[predicted[i]],
                    "p_true": float(probabilities[i, true]),
                    "p_predicted": float(probabilities[i, predicted[i]]),
                    **files,
                }
            )
        commit_json(folder / LIST, entries)
    return how


def _maps(
    session: RunSession, model: keras.Model, pixels: Sequence[np.ndarray], classes: np.ndarray
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Maps (n, 2, height, width) at the size of the model's input, and their layer."""
    opened = replace(
        open_model(model), raise_if_stopped=partial(session.stop.raise_if_stopped, _DOING)
    )
    try:
        layer = last_spatial_layer(opened)
    except ConfigError as error:
        session.console.info(f"no maps of the worst mistakes: {error.message}")
        return None, {"without_maps": error.message}
    explain = explainer(opened, METHOD, layer=layer, batch_size=_BATCH_SIZE)
    images = np.stack(pixels).astype(np.float32)
    found = explain(images, classes)
    maps = upsample(found.maps, images.shape[1:3], found.box, extend=True)
    return maps, {"layer": layer}


def _pictures(
    session: RunSession, path: str, maps: np.ndarray | None, folder: Path, stem: str
) -> dict[str, str | None]:
    """Write the photograph and the maps over it, and return the names of the files."""
    decoder = session.dataset.pixels.decoder
    photograph = _photograph(session.dataset.pixels.root / path, decoder)
    size = photograph.shape[:2]
    box = seen_box(size, decoder.size, decoder.resize)
    pictures = {"picture": (f"{stem}.jpg", photograph)}
    for role, each in zip(("true", "predicted"), [] if maps is None else maps, strict=False):
        heat = upsample(heatmap(each), size, box)
        pictures[f"map_{role}"] = f"{stem}-{role}.jpg", overlay(photograph, heat)
    for name, picture in pictures.values():
        Image.fromarray(picture).save(folder / name, quality=88)
    files = {key: name for key, (name, _) in pictures.items()}
    return {"map_true": None, "map_predicted": None, **files}


def _photograph(path: Path, decoder: Decoder) -> np.ndarray:
    """RGB uint8 in the proportions of the photograph, enlarged if it is tiny."""
    content = read_image(path)
    decoded = decoder(content)
    scale = min(1.0, _MOST_PIXELS / max(decoded.height, decoded.width))
    size = [max(1, round(side * scale)) for side in (decoded.height, decoded.width)]
    pixels = replace(decoder, size=(size[0], size[1]), resize="stretch")(content).pixels
    times = -(-_FEWEST_PIXELS // max(size))  # an integer, so that pixels stay squares
    return pixels.repeat(times, axis=0).repeat(times, axis=1)
