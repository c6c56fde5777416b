"""The methods of explaining by name."""

from collections.abc import Callable
from dataclasses import dataclass

from cvtrain.errors import ConfigError
from cvtrain.visuals import attributions, cams
from cvtrain.visuals.explanation import Explain, Explanation
from cvtrain.visuals.opened import OpenedModel, find_spatial_layer, last_spatial_layer

__all__ = ["METHODS", "Explain", "Explanation", "Method", "explainer"]


@dataclass(frozen=True)
class Method:
    """A way of explaining.

    Attributes:
        name: what the command line calls it.
        function: makes what explains images; see `cams` and `attributions`.
        needs_layer: its maps come from a layer's activation; else they come from the pixels.
        uses_class: it explains a class; else it finds one map, whatever class is asked for.
        description: in a few words.
    """

    name: str
    function: Callable[..., Explain]
    needs_layer: bool
    uses_class: bool
    description: str


def _cam(name, function, description, *, uses_class=True):
    return Method(name, function, True, uses_class, description)


def _pixels(name, function, description):
    return Method(name, function, False, True, description)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _cam("gradcam", cams.gradcam, "channels weighted by their mean gradient"),
        _cam("gradcam++", cams.gradcam_plus_plus, "finds every instance of an object"),
        _cam("hirescam", cams.hirescam, "gradient times activation, place by place"),
        _cam("layercam", cams.layercam, "sharper, also good at early layers"),
        _cam("scorecam", cams.scorecam, "channels weighted by what is seen through them; slow"),
        _cam("eigencam", cams.eigencam, "what the layer sees, of no class", uses_class=False),
        _cam("ablation", cams.ablation, "channels weighted by what is lost without them"),
        _pixels("saliency", attributions.saliency, "gradient by the pixels"),
        _pixels("smoothgrad", attributions.smoothgrad, "saliency averaged over noise"),
        _pixels(
            "integrated-gradients",
            attributions.integrated_gradients,
            "shares that sum to the score",
        ),
        _pixels("occlusion", attributions.occlusion, "what is lost when a patch is covered; slow"),
        _pixels("rise", attributions.rise, "what random masks leave of the score; very slow"),
    )
}


def explainer(
    opened: OpenedModel,
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
        layer: of `OpenedModel.layers`, for a method that needs one; None: `last_spatial_layer`.
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
