"""The networks that a config may name: from scratch, a pretrained base, a head on it."""

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from cvtrain.sections.architectures import ARCHITECTURES, networks_like
from cvtrain.sections.base import (
    PerStage,
    Positive,
    Rate,
    Section,
)


class Convnet(Section):
    """A plain convnet: stages of convolution and pooling, then dense layers."""

    name: Literal["convnet"] = "convnet"
    """The architecture."""
    filters: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 128, 128)
    """Output channels of each convolution; their number is the number of stages."""
    kernel_size: PerStage = 3
    """Window of the convolutions in pixels; one number, or one per stage."""
    padding: Literal["valid", "same"] = "valid"
    """`valid` shrinks the map by the border, `same` keeps its size."""
    strides: PerStage = 1
    """Step of the convolution windows; one number, or one per stage."""
    pooling: PerStage = 2
    """Max-pooling window after each convolution, 1 = none; one number, or one per stage."""
    batch_normalization: bool = False
    """Batch normalisation between convolution and ReLU."""
    global_average_pooling: bool = False
    """Average each map instead of flattening them all."""
    dense: tuple[Positive, ...] = (512,)
    """Units of the dense ReLU layers before the classifier; [] for none."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the flattened features that is dropped in training."""
    grayscale: bool = False
    """Convert the images to grayscale in the network."""

    @model_validator(mode="after")
    def _one_value_per_stage(self) -> "Convnet":
        for key in ("kernel_size", "strides", "pooling"):
            value = getattr(self, key)
            if isinstance(value, tuple) and len(value) != len(self.filters):
                raise ValueError(
                    f"{key} has {len(value)} values for {len(self.filters)} stages (filters); "
                    "give one number, or one per stage"
                )
        return self


class Separable(Section):
    """The book's small residual net of separable convolutions: Xception in little."""

    name: Literal["separable"]
    """The architecture."""
    filters: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 128, 256, 512)
    """Output channels of each block; every block halves the map."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the averaged features that is dropped in training."""


def _net_name(value: Any) -> str:
    """Which net a section is of: a convnet where it does not say."""
    if isinstance(value, dict):
        return str(value.get("name", "convnet"))
    return getattr(value, "name", "convnet")


Net = Annotated[
    Annotated[Convnet, Tag("convnet")] | Annotated[Separable, Tag("separable")],
    Discriminator(_net_name),
]


class Backbone(Section):
    """The base whose features are used: a network of keras.applications, or an earlier run."""

    name: str | None = None
    """Which network, such as `vgg16`; left out where `weights` names a run."""
    weights: str = "imagenet"
    """`imagenet` (Keras' download), a weights file, a run folder, or `none` for random ones."""
    alpha: Rate | None = None
    """Width multiplier of a MobileNet; left out: 1."""
    cut: str | None = None
    """Layer or block whose output is the feature; left out: the last one."""

    @model_validator(mode="after")
    def _names_a_network(self) -> "Backbone":
        if self.name is None:
            if self.weights in ("imagenet", "none"):
                raise ValueError("name is missing, such as vgg16 or mobilenet")
            return self
        if self.name not in ARCHITECTURES:
            close = " or ".join(networks_like(self.name))
            hint = f"did you mean {close}?" if close else f"known: {', '.join(ARCHITECTURES)}"
            raise ValueError(f"there is no network '{self.name}'; {hint}")
        if self.alpha is not None and not ARCHITECTURES[self.name].has_alpha:
            raise ValueError(f"{self.name} has no alpha; leave it out")
        return self


class Head(Section):
    """What stands on the features: layers that are trained, or a closed form."""

    name: Literal["dense", "logistic"] = "dense"
    """`dense` layers, or `logistic` regression."""
    pooling: Literal["average", "max", "flatten"] = "average"
    """How the map becomes a vector; `flatten` keeps where things are, and has more weights."""
    dense: tuple[Positive, ...] = (256,)
    """Units of the dense ReLU layers before the classifier; [] for none."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the values that is dropped in training, before the classifier and between layers."""
