"""Test-time augmentation: the views of an image that a prediction is averaged over.

As in Krizhevsky et al. (2012), ImageNet classification with deep convolutional neural networks,
section 4.1. The views are the same for every image, so a prediction depends only on the image.
"""

from dataclasses import replace

from cvtrain.images.augment import Change, draw
from cvtrain.sections import Augment

STRENGTH = 0.5
"""Ranges of the views as a fraction of the ranges in training."""

_SIDES = {  # flip -> (mirrored left and right, mirrored top and bottom) of the first views
    "none": ((False, False),),
    "horizontal": ((False, False), (True, False)),
    "vertical": ((False, False), (False, True)),
    "both": ((False, False), (True, False), (False, True), (True, True)),
}


def view_changes(
    augmentation: Augment, num_views: int, *, seed: int, strength: float = STRENGTH
) -> list[Change]:
    """The change of each view; the first one changes nothing.

    The next views are the mirror images that training used; then come the same ones rotated,
    shifted, sheared and zoomed, less than in training. Colours are kept, and nothing is erased.

    Args:
        augmentation: Augmentation of the training.
        num_views: Number of views, at least 1.
        seed: Random seed, in 0..2**64 - 1.
        strength: Fraction of the ranges in training, in 0..1.

    Returns:
        `num_views` changes, or fewer if training only mirrored images.
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
