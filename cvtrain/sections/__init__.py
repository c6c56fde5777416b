"""The sections of a config: frozen pydantic models, which the functions below take as arguments.

`Augment(rotate=20)` is as good in a notebook as `augment: {rotate: 20}` in a YAML file. What a
section holds is checked when it is made. Nothing in here imports anything heavy.
"""

from cvtrain.sections.images import Augment, Columns, Data, RandAugment, SplitShares
from cvtrain.sections.networks import Backbone, Convnet, Head, Separable
from cvtrain.sections.stages import (
    ExtractFeatures,
    FineTune,
    Fit,
    LearningCurve,
    Optimizer,
    Probe,
    Schedule,
    Training,
    Unfreeze,
)

__all__ = [
    "Augment",
    "Backbone",
    "Columns",
    "Convnet",
    "Data",
    "ExtractFeatures",
    "FineTune",
    "Fit",
    "Head",
    "LearningCurve",
    "Optimizer",
    "Probe",
    "RandAugment",
    "Schedule",
    "Separable",
    "SplitShares",
    "Training",
    "Unfreeze",
]
