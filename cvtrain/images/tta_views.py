"""Test-time augmentation: the changed views of an image that a prediction is averaged over.

As in Krizhevsky et al. (2012), ImageNet classification with deep convolutional neural networks,
section 4.1. The views are the same for every image, so a prediction depends on the image alone.
"""

from dataclasses import replace

from cvtrain.images.augment import Change, draw
from cvtrain.sections import Augment

STRENGTH = 0.5
"""Share of the training's ranges that views are drawn from."""

_SIDES = {  # flip -> (mirrored left and right, mirrored top and bottom) of the first views
    "none": ((False, False),),
    "horizontal": ((False, False), (True, False)),
    "vertical": ((False, False), (False, True)),
    "both": ((False, False), (True, False), (False, True), (True, True)),
}


def view_changes(
    augmentation: Augment, num_views: int, *, seed: int, strength: float = STRENGTH
) -> list[Change]:
    """The change that makes each view of an image; the first one changes nothing.

    Next come the mirror images, as far as training had them; then the same again, rotated, shifted,
    sheared and zoomed, less than training did. Colours stay, and nothing is erased.

    Args:
        augmentation: of the training.
        num_views: at least 1.
        seed: in 0..2**64 - 1.
        strength: share of the training's ranges, in 0..1.

    Returns:
        `num_views` changes, or fewer: all there are, where training only mirrored.
    """
    sides = _SIDES[augmentation.flip]
    small = Augment(
        rotate=strength * augmentation.rotate,
        shift=strength * augmentation.shift,
        shear=strength * augmentation.shear,
        zoom=strength * augmentation.zoom,
    )
    if small == Augment():
        num_views = min(num_views, len(sides))
    changes = []
    for view in range(num_views):
        moved = view >= len(sides)
        change = draw(small, seed=seed, epoch=view, sample=0) if moved else Change()
        mirror_x, mirror_y = sides[view % len(sides)]
        changes.append(replace(change, mirror_x=mirror_x, mirror_y=mirror_y))
    return changes
