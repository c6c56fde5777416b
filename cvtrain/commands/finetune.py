"""`cvtrain finetune`: the top of a run's network is trained on, what is below stays frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from cvtrain.backend import keras
from cvtrain.config import Config
from cvtrain.data.index import Split
from cvtrain.errors import ConfigError
from cvtrain.models.transfer import (
    in_precision,
    layer_digests,
    set_trainable,
    suffix_of,
    unfreeze,
    variable_rates,
)
from cvtrain.runs.run import Run, RunRequest
from cvtrain.sections import Augment, FineTune, Unfreeze
from cvtrain.steps.cached_features import (
    CachedPrefix,
    check_unseen_images,
    evaluation_parts,
    feature_feed,
    feature_predictor,
    open_model,
    record_proof,
)
from cvtrain.steps.find_mislabels import judged_before
from cvtrain.steps.finish import finish
from cvtrain.steps.inference import image_predictor
from cvtrain.steps.session import RunSession, finished_run, open_session
from cvtrain.steps.stage import (
    draw_augmentation,
    image_feed,
    in_best_precision,
    train_stage,
)
from cvtrain.steps.training_outcome import TrainingResult
from cvtrain.system.console import Console


def finetune(config: Config, request: RunRequest, console: Console, *, source: Run) -> Run:
    """Train the top of a run's network on, in one step or several.

    Args:
        config: the checked config; its images must be of the classes of `source`.
        request: the run folder to write, or to continue.
        source: the run whose model is the start.

    Returns:
        The finished run.

    Raises:
        ConfigError, DataError, RunError: before anything is trained.
        TrainingError, ResourceError: training cannot go on; the best model so far is saved.
        Stopped: on request; the best model so far is saved, and `resume` continues.
    """
    if done := finished_run(request, console):
        return done
    section = config.finetune or FineTune()
    views = section.views or config.extract_features.views
    config = config.model_copy(update={"finetune": section.model_copy(update={"views": views})})
    augmentation = config.augment if views != 1 else None
    with open_session("finetune", config, request, console, source=source) as session:
        check_same_classes(source, session)
        check_unseen_images(source, session.dataset)
        model = open_model(source, image_size=config.data.image_size)
        check_steps(model, section)
        # In another precision the same layer's features would be others, and computed anew.
        session.run.update(features=source.record.features | session.run.record.features)
        draw_augmentation(session, augmentation, views)
        before = layer_digests(model)
        trained: set[str] = set()
        changed: set[str] = set()
        result = TrainingResult()
        for number, step in enumerate((section, *section.then), 1):
            stage = _Stage(session, model, step, number, augmentation, views)
            if number == 1:
                untuned = stage.test_predictions()
            result = stage.train(result)
            trained.update(stage.unfrozen.layers)
            if not result.moved and section.then:
                console.remark(f"step {number}: no epoch was better; the model before it is kept")
            if result.moved:
                changed.update(set(stage.unfrozen.layers) - result.idle)
        record_proof(session, before, layer_digests(model), trained, excused=trained - changed)
        known = judged_before(source, session)
        finish(session, model, result, *stage.evaluation(), known, untuned=untuned)
    return session.run


def check_steps(model: keras.Model, section: FineTune) -> None:
    """Raise ConfigError for a step that this network cannot take, before the first one trains."""
    for number, step in enumerate((section, *section.then)):
        key = f"finetune.then.{number - 1}" if number else "finetune"
        unfreeze(model, step, key=key)


def check_same_classes(source: Run, session: RunSession) -> None:
    """Raise ConfigError unless the images are of the classes that the run tells apart."""
    known, names = source.require("class_names").class_names, session.dataset.index.class_names
    if known != names:
        raise ConfigError(
            f"{source.path} was trained on the classes {', '.join(known)}, and the images have the "
            f"classes {', '.join(names)}",
            "For other classes put a new head on it: extract_features.backbone.weights names "
            "the run.",
        )


class _Stage:
    """One step of fine-tuning: what is frozen, what is trained, and from what."""

    def __init__(
        self,
        session: RunSession,
        model: keras.Model,
        step: Unfreeze,
        number: int,
        augmentation: Augment | None,
        views: int | str,
    ):

        self.session, self.model, self.step, self.number = session, model, step, number
        self.augmentation = augmentation
        self.unfrozen = unfreeze(model, step)
        set_trainable(model, self.unfrozen.layers)
        layer = self.unfrozen.split
        self.frozen = (
            CachedPrefix(session, model, layer, augmentation, int(views))
            if layer and views != "unlimited"
            else None
        )
        self.parts = (
            evaluation_parts(session.dataset) if self.frozen else session.dataset.index.splits
        )
        self.exact = self.frozen.exact_rows(self.parts) if self.frozen else {}

    def test_predictions(self) -> np.ndarray:
        """What the model says of the test images as it is now, (n, classes)."""
        _, predict = self.evaluation()
        return predict("test")

    def train(self, earlier: TrainingResult) -> TrainingResult:
        """Train the upper part on cached features, or the whole on images; the whole course."""
        session, step = self.session, self.step
        upper = self.model
        if self.frozen:
            upper = suffix_of(self.model, self.frozen.layer)
            rows, validation = self.frozen.training_rows(), self.exact["validation"]
            num_views = self.frozen.num_views
            feed = feature_feed(session, step, rows, validation, num_views=num_views)
        else:
            feed = image_feed(session, step, self.augmentation)
        source = f"the cached {self.frozen.layer}" if self.frozen else "the images"
        session.console.remark(
            f"step {self.number}: {len(self.unfrozen.layers)} layers are trained, "
            f"from {self.unfrozen.layers[0]} on, reading {source}"
        )
        trained, precision = in_best_precision(session, partial(in_precision, upper), step, feed)
        return train_stage(
            session,
            trained,
            self.model,
            step,
            feed,
            precision=precision,
            rates=variable_rates(trained, self.unfrozen),
            number=self.number,
            earlier=earlier,
        )

    def evaluation(self) -> tuple[Mapping[str, Split], Callable[[str], np.ndarray]]:
        """What the model is measured on, and how: as `finish` takes it."""
        if not self.frozen:
            return self.parts, image_predictor(self.session, self.model)
        suffix = suffix_of(self.model, self.frozen.layer)
        return self.parts, feature_predictor(self.session, suffix, self.exact)
