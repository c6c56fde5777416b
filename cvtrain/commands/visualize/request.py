"""The options of `visualize`, checked before the engine is loaded, which takes seconds."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvtrain.data.scan import join_names
from cvtrain.errors import ConfigError, RunError
from cvtrain.models.keras_file import layer_names
from cvtrain.system.text import escape, safe_name


@dataclass(frozen=True)
class VisualizeRequest:
    """The options of one call of `visualize`.

    Attributes:
        what: `cam`, `activations`, `filters` or `depth`.
        layer: layer name; None chooses one and prints it.
        classes: class name, index, `top:K` or `all`; None for the predicted and the true class.
        method: name in `explain.explain.METHODS`; None for gradcam.
        style: filter style in `activation_maximization.STYLES`; None for book.
        evaluate: whether the faithfulness of the maps is measured.
        sanity: whether the maps are tested with randomized weights.
        seed: seed of the image sample, of random methods and of the starts of filter images.
    """

    what: str = "cam"
    layer: str | None = None
    classes: str | None = None
    method: str | None = None
    style: str | None = None
    evaluate: bool = False
    sanity: bool = False
    seed: int = 0

    @property
    def folder_name(self) -> str:
        """The name of the output folder, which differs between methods, styles and layers."""
        names = {"cam": self.method or "gradcam", "filters": f"filters-{self.style or 'book'}"}
        name = names.get(self.what, self.what)
        return f"{name}-{safe_name(self.layer)}" if self.layer else name


@dataclass(frozen=True)
class ClassChoice:
    """The classes to explain in each image: by default the predicted and, if known, the true one.

    Attributes:
        fixed: class indices that are the same for every image; None otherwise.
        top: number of the most probable classes; None otherwise.
    """

    fixed: Sequence[int] | None
    top: int | None

    @property
    def most(self) -> int:
        """The largest number of classes of one image."""
        return len(self.fixed) if self.fixed is not None else self.top or 2

    def of(self, scores: np.ndarray, true: Sequence[int | None]) -> np.ndarray:
        """The classes (n, k) to explain, by the scores (n, classes) and the known true classes."""
        order = np.argsort(-scores, axis=1, kind="stable")
        if self.fixed is not None:
            return np.tile(np.array(self.fixed), (len(scores), 1))
        if self.top is not None:
            return order[:, : self.top]
        predicted = order[:, 0]
        if all(t in (None, p) for t, p in zip(true, predicted, strict=True)):
            return predicted[:, None]
        known = [p if t is None else t for p, t in zip(predicted, true, strict=True)]
        return np.stack([predicted, known], axis=1)


def resolve_classes(choice: str | None, class_names: Sequence[str]) -> ClassChoice:
    """Parse `--class`: a name, an index, `top:K` or `all`; None for the default.

    Raises:
        ConfigError: there is no such class.
    """
    names = list(class_names)
    if choice is None or choice == "all":
        return ClassChoice(range(len(names)) if choice else None, None)
    if choice in names:
        return ClassChoice([names.index(choice)], None)
    if choice.isascii() and choice.isdigit() and int(choice) < len(names):
        return ClassChoice([int(choice)], None)
    word, _, count = choice.partition(":")
    if word == "top" and count.isascii() and count.isdigit() and int(count) >= 1:
        return ClassChoice(None, min(int(count), len(names)))
    raise ConfigError(
        f"--class {escape(choice)}: there is no such class",
        _did_you_mean(choice, names)
        or f"Name one of {join_names(names, 20)}; an index from 0 to {len(names) - 1}; "
        "top:K; or all.",
    )


def check_layer(name: str, path: Path) -> None:
    """Check the name of a layer, such as `model.layer` or `layer:1`, against a `.keras` file.

    Whether the layer can be visualized is checked when the model is open, and so is a file whose
    layer names cannot be read.

    Raises:
        ConfigError: there is no such layer.
    """
    try:
        known = layer_names(path)
    except RunError:
        return
    candidates = name, name.rpartition(":")[0]
    if not known or any(f".{each}".endswith(f".{layer}") for each in candidates for layer in known):
        return
    raise ConfigError(
        f"{escape(path)} has no layer {escape(name)}",
        _did_you_mean(name, known) or f"The last of its layers: {join_names(known[-8:])}.",
    )


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known)
    return f"Did you mean {' or '.join(map(escape, near))}?" if near else ""
