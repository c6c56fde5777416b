"""The methods of explaining by name."""

from collections.abc import Callable
from dataclasses import dataclass

from cvtrain.errors import ConfigError
from cvtrain.explain import attributions, cams
from cvtrain.explain.explanation import Explain, Explanation
from cvtrain.explain.flat_model import FlatModel, find_spatial_layer, last_spatial_layer

__all__ = ["METHODS", "Explain", "Explanation", "Method", "explainer"]


@dataclass(frozen=True)
class Method:
    """A way of explaining.

    Attributes:
        name: what the command line calls it.
        function: makes what explains images; see `cams` and `attributions`.
        needs_layer: its maps come from a layer's activation; else they come from the pixels.
        many_passes: it takes tens of passes for an image, or thousands; else a few.
    """

    name: str
    function: Callable[..., Explain]
    needs_layer: bool = True
    many_passes: bool = False


def _by_pixels(name: str, function: Callable[..., Explain], *, many_passes: bool = True) -> Method:
    return Method(name, function, needs_layer=False, many_passes=many_passes)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("gradcam", cams.gradcam),
        Method("gradcam++", cams.gradcam_plus_plus),
        Method("hirescam", cams.hirescam),
        Method("layercam", cams.layercam),
        Method("scorecam", cams.scorecam, many_passes=True),
        Method("eigencam", cams.eigencam),
        Method("ablation", cams.ablation, many_passes=True),
        _by_pixels("saliency", attributions.saliency, many_passes=False),
        _by_pixels("smoothgrad", attributions.smoothgrad),
        _by_pixels("integrated-gradients", attributions.integrated_gradients),
        _by_pixels("occlusion", attributions.occlusion),
        _by_pixels("rise", attributions.rise),
    )
}


def explainer(
    opened: FlatModel,
    method: str,
    *,
    layer: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Explain:
    """Make what explains images by a method; it compiles once.

    Args:
        opened: the model.
        method: one of `METHODS`.
        layer: of `FlatModel.layers`, for a method that needs one; None: `last_spatial_layer`.
        batch_size: rows computed at once.
        seed: of what a method draws.

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
            f"{method} explains by the pixels, and a layer was given: {layer}",
            "Leave it out, or choose one of "
            f"{', '.join(each.name for each in METHODS.values() if each.needs_layer)}.",
        )
    return chosen.function(opened, batch_size=batch_size, seed=seed)
