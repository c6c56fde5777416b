"""The networks that a config may name: from scratch, a pretrained backbone, a head on it."""

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
    """Number of filters of each convolution; one value for each stage."""
    kernel_size: PerStage = 3
    """Kernel size of the convolutions; one number, or one for each stage."""
    padding: Literal["valid", "same"] = "valid"
    """`valid` uses no padding and shrinks the feature map, `same` keeps its size."""
    strides: PerStage = 1
    """Strides of the convolutions; one number, or one for each stage."""
    pooling: PerStage = 2
    """Pool size of the max-pooling after each convolution, 1 for none; one number, or one for each
    stage."""
    batch_normalization: bool = False
    """Whether to use batch normalization between convolution and ReLU."""
    global_average_pooling: bool = False
    """Use global average pooling instead of flattening."""
    dense: tuple[Positive, ...] = (512,)
    """Units of the dense ReLU layers before the classifier; [] for none."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate before the dense layers."""
    grayscale: bool = False
    """Convert the images to grayscale inside the network."""

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
    """A small residual network of separable convolutions, like Xception (F. Chollet's book)."""

    name: Literal["separable"]
    """The architecture."""
    filters: Annotated[tuple[Positive, ...], Field(min_length=1)] = (32, 64, 128, 256, 512)
    """Number of filters of each block; every block halves the feature map."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout rate before the classifier."""


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
    """The backbone whose features are used: a network of keras.applications, or an earlier run."""

    name: str | None = None
    """Name of the network, such as `vgg16`; leave it out if `weights` is a run folder."""
    weights: str = "imagenet"
    """`imagenet` (Keras' download), a weights file, a run folder, or `none` for random weights."""
    alpha: Rate | None = None
    """Width multiplier of a MobileNet. Default: 1."""
    cut: str | None = None
    """Layer or block whose output is used as features. Default: the last one."""

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
    """The head on the features: dense layers, or logistic regression."""

    name: Literal["dense", "logistic"] = "dense"
    """`dense` for dense layers, `logistic` for logistic regression."""
    pooling: Literal["average", "max", "flatten"] = "average"
    """How the feature map becomes a vector; `flatten` keeps positions and needs more weights."""
    dense: tuple[Positive, ...] = (256,)
    """Units of the dense ReLU layers before the classifier; [] for none."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout rate before the classifier and between dense layers."""
