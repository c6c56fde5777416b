"""The whole config: the shared sections, one for each stage, and which command reads which."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from cvtrain.sections.base import NEW_RUN, Section, sections_in
from cvtrain.sections.images import Augment, Data
from cvtrain.sections.stages import ExtractFeatures, FineTune, Fit, LearningCurve, Probe

KeyPath = tuple[str | int, ...]
"""Keys and positions in lists that lead to a value of a config."""


class Origins:
    """The origin of each value, for messages: a line of the file or a --set.

    Any two are equal, so that configs with equal values are equal.
    """

    def __init__(self, name: str, lines: Mapping[KeyPath, int]):
        self.name = name
        self.lines = dict(lines)
        self.overridden: dict[KeyPath, str] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origins)

    def of(self, path: KeyPath) -> str:
        """`file:line` or `--set ...` of the value at `path`, of what it stands in, or in it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.overridden:
                return self.overridden[path[:length]]
            if path[:length] in self.lines and (length or not self.overridden):
                return f"{self.name}:{self.lines[path[:length]]}"
        below = (said for key, said in self.overridden.items() if key[: len(path)] == path)
        return next(below, self.name) if path else self.name


class Config(Section):
    """The shared keys and sections, and one section for each stage."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Random seed of everything random, such as splits, initial weights and augmentation."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Device to compute on; `auto` uses a GPU if there is one."""
    precision: Annotated[Literal["auto", "float32", "bfloat16", "float16"], NEW_RUN] = "auto"
    """Precision of training; `auto` measures which is fastest. The saved model uses float32."""
    log: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    """Additional logs of training: `tensorboard` writes RUN/tensorboard/, `mlflow` logs to the
    server that MLFLOW_TRACKING_URI names."""
    data: Data
    """The images, and how they are read."""
    augment: Augment | None = None
    """Random changes of the training images. Default: none."""
    fit: Fit = Fit()
    """Training of a convnet from scratch."""
    extract_features: ExtractFeatures = ExtractFeatures()
    """Training of a head on features of a frozen backbone."""
    probe: Annotated[Probe, NEW_RUN] = Probe()
    """Search for the best block to cut a backbone."""
    learning_curve: Annotated[LearningCurve, NEW_RUN] = LearningCurve()
    """Estimate of the gain of more data."""
    finetune: FineTune | None = None
    """Continued training of the top layers. Default: the default of each key."""

    _origins: Origins = PrivateAttr(default_factory=lambda: Origins("", {}))

    def know(self, origins: Origins) -> None:
        """Set the origins of the values."""
        self._origins = origins

    def name(self, *path: str) -> str:
        """A key as messages name it: `file:line: data.split.test`, or `--set ...` before it."""
        return ": ".join(filter(None, (self._origins.of(path), ".".join(path))))

    @model_validator(mode="after")
    def _views_need_augmentation(self) -> "Config":
        for key in ("extract_features", "finetune"):
            views = getattr(getattr(self, key), "views", None)
            if views not in (None, 1) and self.augment is None:
                raise ValueError(
                    f"{key}.views is {views}, and there is no augment section that says how views "
                    "differ; add one, or set views to 1"
                )
        return self

    @model_validator(mode="after")
    def _cached_views_are_of_one_image(self) -> "Config":
        for key in ("extract_features", "finetune"):
            views = getattr(getattr(self, key), "views", None)
            if views not in (None, 1, "unlimited") and self.augment and self.augment.mixes:
                mixes = " and ".join(f"augment.{each}" for each in self.augment.mixes)
                raise ValueError(
                    f"{key}.views is {views}, and a cached view is of one image, which {mixes} "
                    "would mix with another; leave that out, or set views to unlimited"
                )
        return self


def makes_new_run(key: str) -> bool:
    """Whether a change of this key, such as `fit.model.filters`, requires a new run."""
    sections: list[type[Section]] = [Config]
    for part in key.split("."):
        fields = [each.model_fields[part] for each in sections if part in each.model_fields]
        if any(NEW_RUN in field.metadata for field in fields):
            return True
        sections = [inner for field in fields for inner in sections_in(field.annotation)]
    return False
