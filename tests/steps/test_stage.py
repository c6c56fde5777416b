"""What a stage is given: class weights by scikit-learn, and the length of an epoch."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from cvtrain.sections import Fit
from cvtrain.steps.stage import Feed, class_weights_of, steps_of

LABELS = np.array([0] * 7 + [1] * 2 + [2])


def test_balanced_weights_are_those_of_scikit_learn():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(class_weights_of(Fit(class_weights="balanced"), LABELS), expected)
    assert class_weights_of(Fit(class_weights="none"), LABELS) is None


@pytest.mark.parametrize(("settings", "steps"), [({}, 3), ({"steps_per_epoch": 7}, 7)])
def test_an_epoch_is_one_pass_unless_the_config_sets_its_length(settings, steps):
    feed = Feed(batches=lambda _: iter(()), validation=lambda: iter(()), labels=LABELS)
    assert steps_of(Fit(batch_size=4, **settings), feed) == steps
