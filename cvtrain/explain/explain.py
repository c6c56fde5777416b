"""The methods of explaining, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from cvtrain.errors import ConfigError
from cvtrain.explain import attributions, cams
from cvtrain.explain.explanation import Explain
from cvtrain.explain.flat_model import FlatModel, find_spatial_layer, last_spatial_layer


@dataclass(frozen=True)
class Method:
    """A method of explaining.

    Attributes:
        function: function of `cams` or `attributions` that returns an `Explain`.
        needs_layer: whether maps come from the activation of a layer; else from the pixels.
        many_passes: whether an image takes tens or thousands of passes; else a few.
    """

    function: Callable[..., Explain]
    needs_layer: bool = True
    many_passes: bool = False


METHODS = {
    "gradcam": Method(cams.gradcam),
    "gradcam++": Method(cams.gradcam_plus_plus),
    "hirescam": Method(cams.hirescam),
    "layercam": Method(cams.layercam),
    "scorecam": Method(cams.scorecam, many_passes=True),
    "eigencam": Method(cams.eigencam),
    "ablation": Method(cams.ablation, many_passes=True),
    "saliency": Method(attributions.saliency, needs_layer=False),
    "smoothgrad": Method(attributions.smoothgrad, needs_layer=False, many_passes=True),
    "integrated-gradients": Method(
        attributions.integrated_gradients, needs_layer=False, many_passes=True
    ),
    "occlusion": Method(attributions.occlusion, needs_layer=False, many_passes=True),
    "rise": Method(attributions.rise, needs_layer=False, many_passes=True),
}


def explainer(
    opened: FlatModel,
    method: str,
    *,
    layer: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Explain:
    """Build the function that explains images by a method; it compiles once.

    Args:
        opened: model to explain.
        method: key of `METHODS`.
        layer: key of `FlatModel.layers`, for a method that needs one; None: `last_spatial_layer`.
        batch_size: images in one pass.
        seed: seed of the random numbers of a method.

    Raises:
        ConfigError: there is no such method or layer, the layer's output has no height and width,
            or the method works without one.
    """
    if method not in METHODS:
        raise ConfigError(f"there is no method {method}", f"Methods: {', '.join(METHODS)}.")
    chosen = METHODS[method]
    if chosen.needs_layer:
        layer = find_spatial_layer(opened, layer) if layer else last_spatial_layer(opened)
        return chosen.function(opened, layer, batch_size=batch_size)
    if layer:
        raise ConfigError(
            f"{method} works on the pixels and takes no layer, received {layer}",
            "Leave it out, or choose one of "
            f"{', '.join(name for name, each in METHODS.items() if each.needs_layer)}.",
        )
    return chosen.function(opened, batch_size=batch_size, seed=seed)
