"""Comments and texts that hold whatever is put into them."""

import pytest
import yaml as pyyaml

from cvtrain.commands.init.config_template import blocks_to_unfreeze, note, yaml_text
from cvtrain.models.imagenet import KerasWeights
from cvtrain.sections import Head, Unfreeze

HOSTILE = [
    "plain",
    "a # b: {c}, [d]",
    "'single' and \"double\" \\ back",
    "new\nline",
    "tab\there",
    "null",
    "1e3",
    "- item",
    "!!python/object:os.system",
    "next\x85line, separator\u2028, bell\x07, escape\x1b[31m, del\x7f",
    "café, 图片, 😀",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_yaml_reads_back_what_was_written(text):
    assert pyyaml.safe_load(f"key: {yaml_text(text)}  # and a comment") == {"key": text}
    assert pyyaml.safe_load(f"key: {yaml_text([text, 'b'])}") == {"key": [text, "b"]}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("indent", [0, 2])
def test_a_comment_stays_a_comment(text, indent):
    lines = note(f"{text} " * 20, indent).splitlines()
    assert all(line.startswith(" " * indent + "#") for line in lines)
    assert pyyaml.safe_load("a: 1\n" + "\n".join(lines)) == {"a": 1}


def test_comments_are_wrapped():
    assert max(map(len, note("word " * 100, 4).splitlines())) <= 99


@pytest.mark.parametrize(
    "name", ["mobilenet", "vgg16", pytest.param("efficientnet_v2_b0", marks=pytest.mark.slow)]
)
def test_every_base_has_the_blocks_that_are_unfrozen(name):
    from cvtrain.models.backbones import build_backbone
    from cvtrain.models.blocks import blocks

    base = KerasWeights(name, 0.25 if name == "mobilenet" else None)
    model = build_backbone(name, image_size=(64, 64), weights=None, alpha=base.alpha)
    assert blocks_to_unfreeze(base) <= len(blocks(model))


def test_six_blocks_of_a_mobilenet_begin_at_its_eighth():
    """docs/transfer.md and configs/clothing-mobilenet.yaml have conv_pw_8."""
    from cvtrain.models.backbones import build_backbone
    from cvtrain.models.heads import attach_dense
    from cvtrain.models.transfer import unfreeze

    base = build_backbone("mobilenet", image_size=(64, 64), weights=None, alpha=0.25)
    head = Head(dense=(8,), dropout=0.0)
    model = attach_dense(base, base.layers[-1].name, head, num_classes=2)
    number = blocks_to_unfreeze(KerasWeights("mobilenet", 0.25))
    by_number = unfreeze(model, Unfreeze(unfreeze_blocks=number))
    assert by_number == unfreeze(model, Unfreeze(unfreeze_from="conv_pw_8"))
