"""Cut a backbone at a layer, and attach a head to it."""

from __future__ import annotations

from cvtrain.backend import keras
from cvtrain.config import Config
from cvtrain.models.blocks import find_cut
from cvtrain.models.heads import attach_dense
from cvtrain.models.transfer import unfreeze
from cvtrain.steps.cached_features import open_backbone
from cvtrain.steps.session import RunSession


def cut_backbone(session: RunSession, config: Config) -> tuple[keras.Model, str]:
    """Open the backbone that a config names; return it and the layer where it is cut."""
    section = config.extract_features.backbone
    backbone = open_backbone(
        section, image_size=config.data.image_size, seed=config.seed, dataset=session.dataset
    )
    return backbone, find_cut(backbone, section.cut)


def finetuning_splits(config: Config, model: keras.Model) -> tuple[str, ...]:
    """Names of layers whose outputs `finetune` of the same config reads for the same views."""
    section = config.finetune
    if section is None or section.views not in (None, config.extract_features.views):
        return ()
    splits = (unfreeze(model, step).split for step in (section, *section.then))
    return tuple(split for split in splits if split)


def attach_dense_head(session: RunSession, backbone: keras.Model, cut: str) -> keras.Model:
    """Attach new dense layers to the backbone at its cut."""
    config = session.config
    num_classes = len(session.dataset.index.class_names)
    head = config.extract_features.head
    return attach_dense(backbone, cut, head, num_classes=num_classes, seed=config.seed)
