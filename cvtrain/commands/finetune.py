"""`cvtrain finetune`: continue to train the top layers of a run; the layers below stay frozen."""

from __future__ import annotations

from functools import partial

from cvtrain.backend import keras
from cvtrain.config import Config
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
from cvtrain.sections import FineTune
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
    """Continue to train the top layers of a run, in one step or several.

    Args:
        config: the checked config; its images must have the classes of `source`.
        request: the run folder to write, or to continue.
        source: the run to start from.

    Returns:
        The finished run.

    Raises:
        ConfigError, DataError, RunError: before anything is trained.
        TrainingError, ResourceError: training cannot continue; the best model so far is saved.
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
        # The precision of the features: in another one, they would be computed again.
        session.run.update(features=source.record.features | session.run.record.features)
        draw_augmentation(session, augmentation, views)
        before = layer_digests(model)
        trained: set[str] = set()
        changed: set[str] = set()
        result, untuned = TrainingResult(), None
        for number, step in enumerate((section, *section.then), 1):
            unfrozen = unfreeze(model, step)
            set_trainable(model, unfrozen.layers)
            if unfrozen.split and views != "unlimited":
                frozen = CachedPrefix(session, model, unfrozen.split, augmentation, views)
                parts = evaluation_parts(session.dataset)
                exact = frozen.extract_evaluation_features(parts)
                rows = frozen.extract_training_features()
                feed = feature_feed(session, step, rows, exact["validation"], num_views=views)
                upper = suffix_of(model, frozen.layer)
                predict = feature_predictor(session, upper, exact)
            else:
                parts = dict(session.dataset.index.splits)
                feed = image_feed(session, step, augmentation)
                upper, predict = model, image_predictor(session, model)
            if untuned is None:
                untuned = predict("test")
            console.info(
                f"step {number}: {len(unfrozen.layers)} layers are trained, from "
                f"{unfrozen.layers[0]} on, reading "
                + ("the images" if upper is model else f"the cached features of {unfrozen.split}")
            )
            copy, precision = in_best_precision(session, partial(in_precision, upper), step, feed)
            result = train_stage(
                session,
                copy,
                model,
                step,
                feed,
                precision=precision,
                rates=variable_rates(copy, unfrozen),
                number=number,
                earlier=result,
            )
            trained.update(unfrozen.layers)
            if result.moved:
                changed.update(set(unfrozen.layers) - result.idle)
            elif section.then:
                console.info(f"step {number}: no epoch was better; the model before it is kept")
        record_proof(session, before, layer_digests(model), trained, excused=trained - changed)
        known = judged_before(source, session)
        finish(session, model, result, parts, predict, known, untuned=untuned)
    return session.run


def check_steps(model: keras.Model, section: FineTune) -> None:
    """Raise ConfigError if the network cannot take one of the steps, before the first trains."""
    for number, step in enumerate((section, *section.then)):
        key = f"finetune.then.{number - 1}" if number else "finetune"
        unfreeze(model, step, key=key)


def check_same_classes(source: Run, session: RunSession) -> None:
    """Raise ConfigError unless the images have the classes of the run."""
    known, names = source.require("class_names").class_names, session.dataset.index.class_names
    if known != names:
        raise ConfigError(
            f"{source.path} was trained on the classes {', '.join(known)}, and the images have the "
            f"classes {', '.join(names)}",
            "For other classes, train a new head, and let extract_features.backbone.weights name "
            "the run.",
        )
