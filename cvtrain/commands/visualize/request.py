"""What a person asks of `visualize`: how to look, and at which class and layer, by their names.

What cannot be is told at once: nothing here needs the engine, which takes seconds to load.
"""

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
    """How to look.

    Attributes:
        what: `cam`, `activations`, `filters` or `depth`.
        layer: name; None: chosen, and told.
        classes: as `resolve_classes` takes it.
        method: of `explain.explain.METHODS`; None: gradcam.
        style: of filters, of `activation_maximization.STYLES`; None: book.
        evaluate: also measure how faithful the maps are.
        sanity: also check that they depend on what was learnt.
        seed: of the sample of images, of what a method draws, and of where filters start.
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
        """Where the pictures go, so that different looks do not replace each other."""
        names = {"cam": self.method or "gradcam", "filters": f"filters-{self.style or 'book'}"}
        name = names.get(self.what, self.what)
        return f"{name}-{safe_name(self.layer)}" if self.layer else name


@dataclass(frozen=True)
class ClassChoice:
    """Which classes are asked of each image.

    Attributes:
        fixed: the same ones of every image; None otherwise.
        top: so many of the most probable; None with `fixed`, or for the default: the predicted
            class, and beside it the true one where it is known.
    """

    fixed: Sequence[int] | None
    top: int | None

    @property
    def most(self) -> int:
        """Classes asked of one image, at most."""
        return len(self.fixed) if self.fixed is not None else self.top or 2

    def of(self, scores: np.ndarray, true: Sequence[int | None]) -> np.ndarray:
        """The classes (n, k) to ask of n images.

        Args:
            scores: (n, classes).
            true: the class of each image, if it is known.
        """
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
    """Understand `--class`: a name, an index, `top:K` or `all`; None for the default.

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
    near = difflib.get_close_matches(choice, names)
    raise ConfigError(
        f"--class {escape(choice)}: there is no such class",
        f"Did you mean {' or '.join(map(escape, near))}?"
        if near
        else f"Name one of {join_names(names, 20)}; an index from 0 to {len(names) - 1}; "
        "top:K; or all.",
    )


def check_layer(name: str, path: Path) -> None:
    """Refuse a layer that a saved model cannot have, by the names in its config.

    Whether one that it has can be looked at is known when the model is open.

    Args:
        name: as `FlatModel.layers` has it: maybe `model.layer`, maybe `layer:1`.
        path: a `.keras` file; one that cannot be read so has any layer here.

    Raises:
        ConfigError: there is no such layer.
    """
    known = _layers_in(path)
    asked = name, name.rpartition(":")[0]
    if not known or any(f".{each}".endswith(f".{layer}") for each in asked for layer in known):
        return
    near = difflib.get_close_matches(name, known)
    raise ConfigError(
        f"{escape(path)} has no layer {escape(name)}",
        f"Did you mean {' or '.join(map(escape, near))}?"
        if near
        else f"The last of its layers: {join_names(known[-8:])}.",
    )


def _layers_in(path: Path) -> list[str]:
    """The layers of a saved model, at any depth; none if the file tells none."""
    try:
        return layer_names(path)
    except RunError:
        return []  # Whoever opens the model says what is wrong with it.
