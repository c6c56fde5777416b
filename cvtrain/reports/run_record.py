"""`run.json` as a report reads it: checked once, so that whoever shows it can rely on its types.

docs/run-folder.md says what each field means. Fields that came with later versions are optional.
"""

from datetime import datetime
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cvtrain.errors import RunError
from cvtrain.runs.commands import MODEL_COMMANDS, NAME_A_MODEL_RUN
from cvtrain.runs.run import Run
from cvtrain.runs.validation import FileName, Text
from cvtrain.system.files import printable, quoted

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Read(BaseModel):
    """What was read from a file of a run; fields that a report does not show are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


Kind = TypeVar("Kind", bound=Read)


class Scores(Read):
    """Of one split: `metrics.summarize`."""

    num_images: Annotated[int, Field(ge=1)]
    accuracy: Share
    accuracy_interval: tuple[Share, Share]
    loss: float


class ClassScores(Read):
    """Of one class."""

    num_images: Count
    precision: Share
    recall: Share | None
    f1: Share | None


class DetailedScores(Scores):
    """Of the test images: `metrics.classification_report`."""

    calibration_error: Share
    per_class: dict[Text, ClassScores]
    confusion_matrix: list[list[Count]]


class Metrics(Read):
    """Of every split that was measured."""

    train: Scores | None = None
    validation: Scores | None = None
    test: DetailedScores


class Problem(Read):
    """One file that the check named."""

    path: Text
    severity: Text
    what: Text


class Check(Read):
    """What the check of the images found before training."""

    num_files: Count
    bad: Count
    leaks: Count = 0
    doubtful: Count
    skipped: Count = 0
    problems: list[Problem] = []


class Data(Read):
    """The images of a run."""

    root: Text
    digest: Text = ""
    counts: dict[Text, dict[Text, Count]]
    check: Check | None = None


class RecordedReading(Read):
    """What the curves say; `proposal` is YAML text, or empty."""

    finding: Text
    detail: Text
    proposal: Text = ""


class Calibration(Read):
    """The temperature fitted on validation, and the calibration error on test without and with."""

    temperature: Annotated[float, Field(gt=0)]
    error_before: Share
    error_after: Share


class Explained(Read):
    """How the worst mistakes were explained, or why they have no maps or are left out."""

    method: Text = ""
    layer: Text = ""
    without_maps: Text = ""
    left_out: Text = ""


class Judged(Read):
    """How many labels are likely wrong, among how many images of each split; or why a split is
    left out."""

    num: Count
    judged: dict[Text, Count] = {}
    left_out: Text = ""


class FrozenLayer(Read):
    """Digests of the weights of one layer."""

    trained: bool
    before: Text
    after: Text

    @property
    def changed(self) -> bool:
        """Whether training changed it."""
        return self.before != self.after


class Base(Read):
    """The frozen base of `extract-features`; one that is an earlier run has no name."""

    name: Text | None = None
    weights: Text | None = None
    alpha: float | None = None
    cut: Text | None = None


class Source(Read):
    """The run that `finetune` started from."""

    run: Text


class StartedFrom(Read):
    """How the model did that fine-tuning started from; `p` of McNemar's test against the new."""

    val_loss: float
    val_accuracy: Share
    test_accuracy: Share
    p: Share


class Environment(Read):
    """What numbers depend on besides config, images and versions: `steps.environment`."""

    instructions: list[Text] | None
    threads: dict[Text, Count]
    variables: dict[Text, Text]


class AcceptedChanges(Read):
    """What had changed when the run was continued in spite of it."""

    when: datetime
    changes: list[Text]


class Record(Read):
    """The content of `run.json` of a run with a model that was measured."""

    command: Text
    name: Text = ""
    started: datetime
    seed: int | None = None
    class_names: Annotated[list[Text], Field(min_length=1)]
    image_size: tuple[int, int]
    data: Data
    device: Text = ""
    precision: Text = ""
    num_parameters: Count | None = None
    weights_sha256: Text = ""
    outcome: Text = ""
    epochs: Count | None = None
    best_epoch: Count | None = None
    metrics: Metrics
    learnt: bool = True
    start: StartedFrom | None = None
    base: Base | None = None
    source: Source | None = None
    freeze_proof: dict[Text, FrozenLayer] = {}
    reading: list[RecordedReading] | None = None
    calibration: Calibration | None = None
    mistakes: Explained = Explained()
    mislabels: Judged | None = None
    seconds: dict[Text, Seconds] = {}
    versions: dict[Text, Text] = {}
    exact: bool = True
    accepted_changes: list[AcceptedChanges] = []

    @model_validator(mode="after")
    def _one_row_a_class(self) -> Self:
        test, num_classes = self.metrics.test, len(self.class_names)
        if set(test.per_class) != set(self.class_names):
            raise ValueError("metrics.test.per_class is not of this run's classes")
        if [len(row) for row in test.confusion_matrix] != [num_classes] * num_classes:
            raise ValueError("metrics.test.confusion_matrix is not of this run's classes")
        return self


class Identity(Read):
    """Digests of what a run was started with."""

    config: Text = ""
    weights: dict[Text, Text] = {}


class Images(Read):
    """Which images those were."""

    digest: Text = ""


class Started(Read):
    """What a run of any command was started with; runs of earlier versions lack some of it."""

    command: Text
    class_names: list[Text] = []
    data: Images = Images()
    identity: Identity = Identity()
    versions: dict[Text, Text] = {}
    environment: Environment | None = None
    device: Text = ""
    accepted_changes: list[AcceptedChanges] = []


class Rung(Read):
    """One line of a ladder's table; its run is a folder in that of the ladder."""

    run: FileName


class Ladder(Read):
    """What a comparison reads of a ladder."""

    rungs: list[Rung]


def read_record(run: Run) -> Record:
    """The record of a run with a model that was measured.

    Raises:
        RunError: the run is of another kind, is not finished, or its `run.json` is damaged.
    """
    where, command = printable(run.path), printable(run.record["command"])
    if command == "ladder":
        folder = quoted(run.path)
        raise RunError(
            f"{where}: a ladder has no predictions of its own, its rungs have",
            f"All of them: cvtrain compare {folder}   One of them: cvtrain report {folder}/RUNG",
        )
    if command not in MODEL_COMMANDS:
        raise RunError(
            f"{where}: a run of {command} has no predictions",
            f"{NAME_A_MODEL_RUN} What this one found is in its CSV files and figures/.",
        )
    if "metrics" not in run.record:
        raise RunError(
            f"{where}: no model was measured in this run, its status is "
            f"'{printable(run.record['status'])}'",
            "Its training diverged: train again at a lower learning rate, or name another run."
            if run.has_diverged
            else "Continue it with --resume, or name another run.",
        )
    return checked(Record, run.record, f"{where}/run.json")


def read_rungs(run: Run) -> list[Rung]:
    """The rungs of a ladder, in its order; RunError where its `run.json` is damaged."""
    return checked(Ladder, run.record, f"{printable(run.path)}/run.json").rungs


def checked(kind: type[Kind], content: object, where: str) -> Kind:
    """`content` as `kind`; RunError says what is wrong with it, and where."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{where}: {printable(f'{place}: ' if place else '')}{printable(first['msg']).lower()}",
            "The file was edited or is damaged. Restore it from a copy, or train again.",
        ) from error
