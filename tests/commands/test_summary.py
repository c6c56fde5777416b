"""A network in a table: sums that Keras knows too, and nothing read that need not be there."""

import pytest

from cvtrain.commands.summary import summary
from cvtrain.config import load_config
from cvtrain.steps.network import build_network
from cvtrain.system.console import Console

QUIET = Console(quiet=True)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        """
data: {source: there-are-no-images, image_size: [40, 33]}
augment: {flip: horizontal}
fit: {model: {filters: [4, 8], kernel_size: 3, padding: same, dense: [5]}}
extract_features:
  backbone: {name: mobilenet, alpha: 0.25, weights: there-is-no-file.h5}
  head: {dense: [6]}
finetune: {unfreeze_from: conv_dw_12}
"""
    )
    return lambda *overrides: load_config(path, overrides)


def rows_of(config, stage="fit", **options):
    options = {"num_classes": 3, "every_layer": False} | options
    return summary(config, stage, console=QUIET, **options)


def test_a_convnet_costs_what_it_costs_by_hand(config):
    rows = {row.name: row for row in rows_of(config())}
    assert rows["conv1"].output == (40, 33, 4)
    assert rows["conv1"].parameters == 3 * 3 * 3 * 4 + 4
    assert rows["conv1"].multiply_adds == 40 * 33 * 3 * 3 * 3 * 4
    assert rows["conv2"].output == (20, 16, 8)
    assert rows["dense1"].parameters == 10 * 8 * 8 * 5 + 5
    field, _ = rows["pool2"].fields
    # 3, then 2 every 1, then 3 every 2, then 2 every 2.
    assert (field.size, field.step) == (3 + 1 + 2 * 2 + 2, 4)
    assert rows["logits"].fields is None
    model = build_network(config(), 3, "float32")
    assert sum(row.parameters for row in rows.values()) == model.count_params()


def test_padding_is_seen(config):
    (same,) = (row for row in rows_of(config()) if row.name == "pool2")
    (valid,) = (row for row in rows_of(config("fit.model.padding=valid")) if row.name == "pool2")
    assert (same.output, valid.output) == ((10, 8, 8), (8, 6, 8))
    assert (same.fields[0].border, valid.fields[0].border) == (1, 0)


def test_no_more_cells_see_padding_than_there_are(config, capsys):
    small = config(
        "data.image_size=[16, 16]",
        "fit.model={filters: [4, 4, 4, 4], kernel_size: 5, padding: same}",
    )
    rows = {row.name: row for row in rows_of(small)}
    assert rows["conv4"].output[:2] == (2, 2)
    assert rows["conv4"].fields[0].border > 2
    table = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    borders = {line[0]: (line[2], line[7]) for line in table if len(line) == 8}
    assert borders["conv4"] == ("2 x 2 x 4", "2")


@pytest.mark.parametrize("stage", ["extract-features", "finetune"])
def test_blocks_and_layers_have_the_same_sums(config, stage):
    blocks = rows_of(config(), stage)
    layers = rows_of(config(), stage, every_layer=True)
    assert len(blocks) < len(layers)
    for key in ("parameters", "trained", "multiply_adds"):
        assert sum(getattr(row, key) for row in blocks) == sum(getattr(row, key) for row in layers)


def test_what_is_trained_is_told(config):
    trained = {row.name for row in rows_of(config(), "extract-features") if row.trained}
    assert trained == {"dense1", "logits"}
    tuned = rows_of(config(), "finetune", every_layer=True)
    base = [row for row in tuned if row.trained and row.name.startswith("conv")]
    assert {row.name for row in base} == {
        *(f"conv_{kind}_12" for kind in ("dw", "pw")),
        *(f"conv_{kind}_13" for kind in ("dw", "pw")),
    }


def test_classes_are_those_of_the_config_or_ten(config):
    ten = rows_of(config(), num_classes=None)
    assert ten[-1].output == (10,)
    two = rows_of(config("data.classes=[a, b]"), num_classes=None)
    assert two[-1].output == (2,)
