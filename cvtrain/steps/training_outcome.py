"""The result of training: its history, the epoch that was kept, and the start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cvtrain.evaluation.remedies import is_absurd_rate, lower_rate
from cvtrain.runs.run import Run
from cvtrain.sections import Training
from cvtrain.system.files import commit_text
from cvtrain.system.text import csv_text
from cvtrain.training.state import Row, Trained

_MOST_DECAY = 0.1  # share of a weight that decay may remove in a step


@dataclass(frozen=True)
class TrainingResult:
    """The result of one stage of training, or of several in a row.

    Attributes:
        history: the rows of all stages, numbered as one training.
        best_epoch: the epoch of `history` whose weights the model has; 0 for those of the start,
            None for those of the last step.
        start: val_loss and val_accuracy of the start, if it counts as an epoch.
        moved: whether this stage changed the model.
        idle: names of layers to be trained whose weights get no gradient from the loss.
    """

    history: "Sequence[Row]" = ()
    best_epoch: int | None = 0
    start: Mapping[str, float] | None = None
    moved: bool = True
    idle: frozenset[str] = frozenset()

    def by_column(self) -> dict[str, list[float]]:
        """The columns of the history, one value per epoch; empty if there are no epochs."""
        names = self.history[0] if self.history else ()
        return {name: [row[name] for row in self.history] for name in names}


def continued(earlier: TrainingResult | None, trained: "Trained") -> TrainingResult:
    """The result of the stages before and of one more."""
    before = earlier or TrainingResult()
    history, best_epoch = concat_history(before.history, trained.history), trained.best_epoch
    if best_epoch:
        best_epoch += len(before.history)
    elif earlier is not None:
        best_epoch = before.best_epoch
    start = before.start or trained.start
    return TrainingResult(history, best_epoch, start, moved=best_epoch != before.best_epoch)


def record_result(run: Run, result: TrainingResult, outcome: str) -> None:
    """Commit the history, its curves and the outcome."""
    write_history(run, result.history)
    draw_history(run, result)
    run.update(outcome=outcome, epochs=len(result.history), best_epoch=result.best_epoch)


def against_overflow(
    run: Run,
    stage: Training,
    number: int,
    result: TrainingResult,
    *,
    precision: str,
    from_start: bool,
) -> str:
    """Advice after a training that diverged, and which model is left.

    Args:
        stage, number: the section of the stage, and its number in the run, from 1.
        result: the result up to there.
        precision: the precision in which the model computed.
        from_start: whether the first loss was already not finite.
    """
    kept = {
        None: "No epoch ended before that, and there is no model.",
        0: f"{run.model_path} is the model that it started from.",
    }.get(
        result.best_epoch,
        f"{run.model_path} has the weights of epoch {result.best_epoch}, the best before that.",
    )
    section = run.record.command.replace("-", "_")
    if from_start:
        ways = ["The weights that it starts from are too large, whatever the rate: take others"]
    else:
        key = section if number == 1 else f"{section}.then.{number - 2}"
        ways = _slower(stage.optimizer.model_dump(), section, key)
    if precision != "float32":
        ways.append("compute in float32 (precision: float32)")
    return f"{', '.join(ways[:-1])}{' or ' * (len(ways) > 1)}{ways[-1]}. {kept}"


def _slower(optimizer: Mapping[str, Any], section: str, key: str) -> list[str]:
    """Ways to take smaller steps; `key` is the key of the stage in the config."""
    rate, lower = optimizer["learning_rate"], lower_rate(optimizer, section, 0.1)
    if rate * (optimizer["weight_decay"] or 0) > _MOST_DECAY:
        return [f"Lower {key}.optimizer.weight_decay from {optimizer['weight_decay']:g} to 0.01"]
    ways = [f"Lower {key}.optimizer.learning_rate from {rate:g} to {lower:g}"]
    if optimizer["clip_norm"] is None and not is_absurd_rate(optimizer, section):
        ways.append(f"bound the gradients ({key}.optimizer.clip_norm: 1.0)")
    return ways


def concat_history(earlier: "Sequence[Row]", rows: "Sequence[Row]") -> "list[Row]":
    """The rows of earlier stages and of one more; epochs and steps are counted through."""
    epochs, steps = (earlier[-1]["epoch"], earlier[-1]["step"]) if earlier else (0, 0)
    later = [row | {"epoch": row["epoch"] + epochs, "step": row["step"] + steps} for row in rows]
    return [*earlier, *later]


def write_history(run: Run, rows: "Sequence[Row]") -> None:
    """Commit `history.csv` with one line per epoch."""
    if rows:
        lines = [[f"{v:.7g}" if isinstance(v, float) else v for v in row.values()] for row in rows]
        commit_text(run.path / "history.csv", csv_text([list(rows[0]), *lines]))


def draw_history(run: Run, result: TrainingResult) -> None:
    """Draw the curves of loss and accuracy, once there is an epoch."""
    from cvtrain.plots import figures

    if result.history:
        panels = figures.curve_panels(result.by_column(), result.best_epoch, result.start)
        figures.save(figures.draw_panels(panels), run.figures / "curves.png")
