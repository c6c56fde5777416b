"""Which backbone is chosen, and that every stage is measured."""

import pytest

from cvtrain.commands.init import stage_timing as module
from cvtrain.models.imagenet import BACKBONES


@pytest.mark.parametrize(
    ("minutes", "chosen", "num_measured"),
    [
        ((1, 2, 3, 4), 3, 4),
        ((1, 2, 30, 4), 1, 3),  # the next one is dearer still: not measured
        ((30, 2, 3, 4), 0, 1),  # none is cheap enough: the cheapest
    ],
)
def test_the_last_base_that_is_fast_enough(monkeypatch, minutes, chosen, num_measured):
    asked = []

    def seconds_with(_job, base):
        asked.append(base)
        return 60 * minutes[BACKBONES.index(base)]

    monkeypatch.setattr(module, "_seconds_with", seconds_with)
    assert module._affordable(None, BACKBONES) == BACKBONES[chosen]
    assert asked == list(BACKBONES[:num_measured])


def test_where_there_is_no_choice_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(module, "_seconds_with", None)
    assert module._affordable(None, BACKBONES[1:2]) == BACKBONES[1]


CONFIG = """
precision: float32
data: {{source: {source}, image_size: 64}}
augment: {{rotate: 10}}
fit: {{model: {{filters: [4], dense: []}}, epochs: 2}}
extract_features:
  backbone: {{name: mobilenet, alpha: 1.0, weights: imagenet}}
  views: 2
finetune: {{unfreeze_blocks: 1}}
"""


@pytest.mark.slow
def test_every_stage_is_measured_without_any_weights(tmp_path, image_folder, monkeypatch):
    monkeypatch.setattr(module, "MOST_SECONDS", 0)  # take the cheapest
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(source=image_folder))
    facts = list(module.measure_stages(path, BACKBONES[:2]))
    assert [next(iter(each)) for each in facts] == [
        "device",
        "fit",
        "backbone",
        "extract-features",
        "finetune",
    ]
    assert facts[2] == {"backbone": ["mobilenet", 0.25]}
    assert all(each[key] > 0 for each in facts for key in each if key not in ("device", "backbone"))
    assert list(tmp_path.iterdir()) == [path]
