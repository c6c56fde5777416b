import pytest

from cvtrain.config.project import makes_new_run


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("precision", True),
        ("data.image_size", True),
        ("fit.model.name", True),
        ("fit.model.filters", True),
        ("fit.ema", True),
        ("extract_features.backbone.cut", True),
        ("finetune.optimizer.name", True),
        ("finetune.then", True),
        ("probe.folds", True),
        ("seed", False),
        ("fit.epochs", False),
        ("fit.optimizer.learning_rate", False),
        ("augment.rand_augment.magnitude", False),
        ("of.an.earlier.version", False),
    ],
)
def test_keys_say_whether_their_change_makes_another_run(key, expected):
    assert makes_new_run(key) is expected
