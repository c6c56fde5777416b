"""Numbers and facts of a run -> short texts."""

from collections.abc import Mapping
from pathlib import Path

from cvtrain.runs.record import DetailedScores, RunRecord
from cvtrain.system.console import duration
from cvtrain.system.text import shell_quote


def percent(share: float) -> str:
    """A share in 0..1 to a tenth of a per cent."""
    return f"{100 * share:.1f} %"


def interval(low: float, high: float) -> str:
    """Both ends of an interval of shares in 0..1."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def p_value(p: float) -> str:
    """A probability to two digits."""
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"


def most_frequent(test: DetailedScores) -> tuple[str, float]:
    """The class with the most test images, and the accuracy of always predicting it."""
    name = max(test.per_class, key=lambda name: test.per_class[name].num_images)
    return name, test.per_class[name].num_images / test.num_images


def what_it_means(test: DetailedScores) -> str:
    """The confidence interval, and the accuracy of predicting the most frequent class."""
    low, high = test.accuracy_interval
    name, chance = most_frequent(test)
    return (
        f"The 95 % confidence interval of the accuracy on other images like these is "
        f"{interval(low, high)}. Always predicting “{name}” "
        + (
            f"reaches {percent(chance)}, so the model may be no better."
            if low <= chance
            else f"would reach {percent(chance)}."
        )
    )


def what_was_trained(record: RunRecord, settings: Mapping[str, str]) -> str:
    """The model, its training images, the date and the duration of the training."""
    num_images = sum(record.data.counts.get("train", {}).values())
    changed = "augmented " if is_augmented(record, settings) else ""
    images = f"{num_images:,} {changed}training images"
    return (
        f"{_model(record)}, on {images} of {len(record.class_names)} classes, "
        f"on {record.started:%-d %B %Y}, in {duration(record.seconds.get('total', 0))}."
    )


def what_it_learnt(record: RunRecord) -> str:
    """A warning if the model is not better than guessing; else empty."""
    if record.learnt:
        return ""
    return (
        "The model has not learnt: on unseen images it is not significantly better than guessing."
    )


def is_augmented(record: RunRecord, settings: Mapping[str, str]) -> bool:
    """Whether the training images were augmented, by the keys of the config."""
    views = settings.get(f"{record.command.replace('-', '_')}.views")
    return views != "1" and any(key.startswith("augment.") for key in settings)


def commands(run_dir: Path, record: RunRecord, settings: Mapping[str, str]) -> list[str]:
    """The commands that train the model again, and reproduce, evaluate and use it."""
    run = shell_quote(run_dir.resolve())
    again = f"cvtrain {record.command} {shell_quote(run_dir.resolve() / 'config.yaml')}"
    if record.source:
        again += f" --from {shell_quote(record.source.run)}"
    if settings.get("precision") == "auto" and record.precision:
        again += f" --set precision={record.precision}"
    return [
        f"{again} --run-dir AGAIN",
        f"cvtrain reproduce {run}",
        f"cvtrain evaluate {run}",
        f"cvtrain predict {run} IMAGES",
    ]


def phases(record: RunRecord) -> list[tuple[str, float, float]]:
    """Name, seconds and share of the total time of each phase, the longest first."""
    total = record.seconds.get("total", 0)
    if not total:
        return []
    named = {name: seconds for name, seconds in record.seconds.items() if name != "total"}
    named["other"] = max(0.0, total - sum(named.values()))
    longest_first = sorted(named.items(), key=lambda item: -item[1])
    return [(name, seconds, seconds / total) for name, seconds in longest_first]


def identity(record: RunRecord) -> list[tuple[str, str]]:
    """The facts that must be equal for equal weights, and the digest of the weights."""
    facts = {
        "command": record.command,
        "config": record.name,
        "seed": str(record.seed),
        "started": f"{record.started:%Y-%m-%d %H:%M:%S %Z}",
        "images, SHA-256": record.data.digest,
        "weights, SHA-256": record.weights_sha256,
        "device": record.device,
        "precision": record.precision,
        **record.versions,
    }
    return [(name, value) for name, value in facts.items() if value]


def accepted_changes(record: RunRecord) -> list[str]:
    """One line for each time that the run was continued in spite of changes."""
    return [
        f"{each.when:%Y-%m-%d %H:%M}: {'; '.join(each.changes)}" for each in record.accepted_changes
    ]


def _model(record: RunRecord) -> str:
    if record.command == "finetune":
        trained = sum(layer.trained for layer in record.freeze_proof.values())
        source = Path(record.source.run).name if record.source else "an earlier run"
        layers = f"{trained} layers" if trained else "the upper layers"
        return f"Fine-tuned from {source}, {layers} of the network"
    if record.command == "extract-features":
        return f"A new head on {_base(record)}, frozen"
    return "A network trained from scratch"


def _base(record: RunRecord) -> str:
    """The frozen backbone with its width, and where it was cut."""
    if record.base is None:
        return "a pretrained network"
    width = f" {record.base.alpha:g}" if record.base.alpha is not None else ""
    cut = f" up to {record.base.cut}" if record.base.cut else ""
    name = record.base.name or Path(record.base.weights or "an earlier run").name
    return f"{name}{width}{cut}"
