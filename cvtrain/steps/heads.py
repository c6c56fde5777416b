"""A base that is cut for a head, and the head on it."""

from __future__ import annotations

from cvtrain.backend import keras
from cvtrain.config import Config
from cvtrain.models.blocks import find_cut
from cvtrain.models.heads import attach_dense
from cvtrain.models.transfer import unfreeze
from cvtrain.steps.cached_features import (
    open_base,
)
from cvtrain.steps.session import Job


def cut_base(job: Job, config: Config) -> tuple[keras.Model, str]:
    """The base that a config names, and the layer where it is cut."""

    section = config.extract_features.backbone
    base = open_base(
        section, image_size=config.data.image_size, seed=config.seed, dataset=job.dataset
    )
    return base, find_cut(base, section.cut)


def finetuning_splits(config: Config, model: keras.Model) -> tuple[str, ...]:
    """Layers whose outputs `finetune` of the same config will need of the same views."""

    section = config.finetune
    if section is None or section.views not in (None, config.extract_features.views):
        return ()
    splits = (unfreeze(model, step).split for step in (section, *section.then))
    return tuple(split for split in splits if split)


def with_dense_head(job: Job, base: keras.Model, cut: str) -> keras.Model:
    """The base up to its cut, and new dense layers."""

    head = job.config.extract_features.head
    return attach_dense(
        base,
        cut,
        num_classes=len(job.dataset.index.class_names),
        pooling=head.pooling,
        dense=head.dense,
        dropout=head.dropout,
        seed=job.config.seed,
    )
