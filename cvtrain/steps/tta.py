"""`--tta`: predictions of a run that are averaged over several views of each image."""

from collections.abc import Callable

import numpy as np

from cvtrain.config import load_config
from cvtrain.errors import ConfigError, RunError
from cvtrain.images.augment import apply
from cvtrain.images.tta_views import view_changes
from cvtrain.runs.run import Run
from cvtrain.sections import Augment

Predict = Callable[[np.ndarray], np.ndarray]
"""Images (n, height, width, 3) uint8 -> probabilities (n, classes) float32."""


def view_average(run: Run, num_views: int) -> Callable[[Predict], Predict]:
    """Average the predictions of a model over several views of each image.

    Args:
        run: the run whose augmentation makes the views and whose seed draws them.
        num_views: number of views of each image, including the image itself.

    Returns:
        A function from `predict` to one that returns the mean of its probabilities over the views.

    Raises:
        ConfigError: the augmentation of the run makes fewer different views.
        RunError: the run has no config.
    """
    if num_views == 1:
        return lambda predict: predict
    path = run.path / "config.yaml"
    if not path.is_file():
        raise RunError(f"{path}: is missing, and says what --tta may change", "Leave out --tta.")
    augmentation = load_config(path).augment or Augment()
    changes = view_changes(augmentation, num_views, seed=run.require("seed").seed)
    if len(changes) < num_views:
        alone = len(changes) == 1
        raise ConfigError(
            f"--tta {num_views}: flip, rotate, shift, shear and zoom of augment in {path} make "
            + ("no view but the image itself" if alone else f"{len(changes)} different views"),
            "Leave out --tta." if alone else f"Ask for --tta {len(changes)}.",
        )

    def average(predict: Predict) -> Predict:
        def over_views(images: np.ndarray) -> np.ndarray:
            total = predict(images).astype(np.float64)
            for change in changes[1:]:
                views = [apply(image, change, augmentation.fill) for image in images]
                total += predict(np.stack(views))
            return (total / num_views).astype(np.float32)

        return over_views

    return average
