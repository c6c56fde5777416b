"""What `run.json` may say: the one schema that writes it, reads it, checks a stranger's, and makes
the table of docs/run-folder.md.

What a run does not know yet, or did not know in an earlier version, is left out of its file and has
its default here; `Run.require` says what a run must have.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from cvtrain.errors import RunError
from cvtrain.runs.validation import FileName, JsonObject, Text, checked
from cvtrain.sections.stages import Metric

FORMAT = 1


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a name stands in it twice")
    return names


def _range(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value):
        low, high = value
        if 0 <= low < high <= 65_535:
            return value
    raise ValueError(f"must be auto, or two numbers that rise; received {value!r:.80}")


# JSON has lists for tuples, and texts for moments.
_LAX = Field(strict=False)
Share = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[tuple[Share, Share], _LAX]
_Byte = Annotated[int, Field(ge=0, le=255)]
_Count = Annotated[int, Field(ge=0)]
_Error = Annotated[float, Field(ge=0)]  # confidences in float32 may be above 1 by a last digit
_Moment = Annotated[datetime, _LAX]
_Seconds = Annotated[float, Field(ge=0)]
_Side = Annotated[int, Field(ge=1, le=4096)]
_Texts = Annotated[tuple[Text, ...], _LAX]
_ClassNames = Annotated[
    tuple[Text, ...], Field(min_length=2, strict=False), AfterValidator(_distinct)
]
_ImageSize = Annotated[tuple[_Side, _Side], _LAX]
_Row = dict[Text, Any]


class DecoderSettings(JsonObject):
    """What `Decoder.recorded` needs besides the size."""

    resize: Literal["stretch", "crop", "pad"]
    background: Annotated[list[_Byte], Field(min_length=3, max_length=3)]
    range: Annotated[str | list[int], PlainValidator(_range)] = "auto"


class About(JsonObject):
    """What `model.keras` says of itself in its metadata."""

    class_names: _ClassNames
    image_size: _ImageSize
    decoder: DecoderSettings


class Scores(JsonObject):
    """Of one split: `metrics.summarize`; the metrics that the config chose are in `chosen`."""

    num_images: Annotated[int, Field(ge=1)]
    accuracy: Share
    accuracy_interval: Interval
    loss: float
    chosen: dict[str, Share] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _gather_chosen(cls, scores: object) -> object:
        if not isinstance(scores, dict):
            return scores
        chosen = {name: scores[name] for name in get_args(Metric) if name in scores}
        return scores | {"chosen": chosen}


class ClassScores(JsonObject):
    """Of one class."""

    num_images: _Count
    precision: Share
    recall: Share | None
    f1: Share | None


class DetailedScores(Scores):
    """Of the test images: `metrics.classification_report`."""

    calibration_error: _Error
    per_class: dict[Text, ClassScores]
    confusion_matrix: list[list[_Count]]


class Metrics(JsonObject):
    """Of every split that was measured."""

    train: Scores | None = None
    """the same as `.validation`, for the training images; with a frozen backbone, for at most 1,000
    of them, which `predictions-train.csv` lists"""
    validation: Scores | None = None
    """metrics of the saved model on the validation images without augmentation: `num_images`,
    `accuracy`, `accuracy_interval`, `loss`, and those that the key `metrics` of the config names,
    such as `macro_f1`"""
    test: DetailedScores
    """the same for the test images, and `calibration_error`, `per_class` (`num_images`,
    `precision`, `recall`, `f1`), `confusion_matrix`"""


class Problem(JsonObject):
    """One file that the check named."""

    path: Text
    severity: Text
    what: Text


class Check(JsonObject):
    """What the check of the images found before training."""

    num_files: _Count
    bad: _Count
    leaks: _Count = 0
    doubtful: _Count
    skipped: _Count = 0
    problems: list[Problem] = Field(default=[])


class Data(JsonObject):
    """The images of a run."""

    root: Text
    """the folder that file names are relative to"""
    digest: Text = ""
    """SHA-256 over split, path, class and content of every file"""
    counts: dict[Text, dict[Text, _Count]] = Field(default={})
    """`{split: {class: images}}`"""
    check: Check | None = None
    """results of the check as numbers of files: `num_files`, `bad` (unusable, or one image under
    two labels), `leaks` (in two splits), `doubtful`, `skipped` (left out), and the first 200
    `problems`: `path`, `severity`, `what`"""


class RecordedReading(JsonObject):
    """What the curves say; `proposal` is YAML text, or empty."""

    finding: Text
    detail: Text
    proposal: Text = ""


class Calibration(JsonObject):
    """The temperature fitted on validation, and the calibration error on test without and with."""

    temperature: Annotated[float, Field(gt=0)]
    error_before: _Error
    error_after: _Error


class Explained(JsonObject):
    """How the worst mistakes were explained, or why they have no maps or are left out."""

    method: Text = ""
    layer: Text = ""
    without_maps: Text = ""
    left_out: Text = ""


class JudgedLabels(JsonObject):
    """How many labels are likely wrong, among how many images of each split; or why a split is
    left out."""

    num: _Count
    judged: dict[Text, _Count] = Field(default={})
    left_out: Text = ""


class FrozenLayer(JsonObject):
    """Digests of the weights of one layer."""

    trained: bool
    before: Text
    after: Text

    @property
    def changed(self) -> bool:
        """Whether training changed it."""
        return self.before != self.after


class Base(JsonObject):
    """The frozen backbone of `extract-features`; one that is an earlier run has no name."""

    name: Text | None = None
    weights: Text | None = None
    alpha: float | None = None
    cut: Text | None = None


class Source(JsonObject):
    """Another run, and the digest of its weights."""

    run: Text
    weights: Text = ""


class StartedFrom(JsonObject):
    """How the model did that fine-tuning started from; `p` of McNemar's test against the new."""

    val_loss: float
    val_accuracy: Share
    test_accuracy: Share
    p: Share


class Environment(JsonObject):
    """What numbers depend on besides config, images and versions: `steps.environment`."""

    instructions: list[Text] | None
    threads: dict[Text, _Count]
    variables: dict[Text, Text]


class AcceptedChanges(JsonObject):
    """What had changed when the run was continued in spite of it."""

    when: _Moment
    changes: list[Text]


class Identity(JsonObject):
    """Digests of what a run was started with."""

    config: Text = ""
    data: Text = ""
    weights: dict[Text, Text] = Field(default={})


class Rung(JsonObject):
    """One line of a ladder's table; its run is a folder in that of the ladder."""

    run: FileName


class RunRecord(JsonObject):
    """The content of a `run.json`."""

    format: int
    """1"""
    command: Text
    """`fit`, `find-lr`, `extract-features`, `finetune`, `probe`, `learning-curve` or `ladder`"""
    name: Text = ""
    """name of the config without its suffix"""
    status: Text
    """`running`, `finished`, `stopped` (can be resumed) or `failed`"""
    error: Text = ""
    """the reason why the run stopped or failed; absent otherwise"""
    started: _Moment
    """time of the start, UTC, ISO 8601"""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """random seed of the config"""
    class_names: _ClassNames = ()
    """class names in the order of the model's output, which is natural order: `1`, `2`, `10` and
    `cat`, `Dog`"""
    image_size: _ImageSize = (0, 0)
    """height and width of the model's input"""
    decoder: DecoderSettings | None = None
    """`resize`, `background` and `range`, as in the config"""
    data: Data = Data(root="")
    device: Text = ""
    """device that computed"""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """precision of training"""
    num_parameters: _Count | None = None
    """number of parameters of the model"""
    weights_sha256: Text = ""
    """SHA-256 over path, dtype, shape and bytes of every weight of `model.keras`"""
    outcome: Text = ""
    """`finished`, `early_stopped`, `stopped`, or `diverged`: losses, weights or optimizer variables
    were no longer finite, exit code 6"""
    epochs: _Count | None = None
    """number of trained epochs, all with finite values"""
    best_epoch: _Count | None = None
    """the epoch whose weights were saved. 0: the initial weights of `finetune`; null: no epoch was
    finished"""
    start: StartedFrom | None = None
    """for `finetune`: `val_loss`, `val_accuracy` and `test_accuracy` of the initial model, and the
    p-value `p` of McNemar's exact test between it and the saved model on the test images"""
    learnt: bool = True
    """whether the saved model is better than guessing on the validation and test images, see
    [training.md](training.md). Absent in runs of earlier versions"""
    constant_features: _Texts = ()
    """layers of the frozen backbone with the same output for all training images; absent if there
    are none"""
    without_gradient: _Texts = ()
    """trained layers that did not change because the loss does not depend on them; absent if there
    are none"""
    metrics: Metrics | None = None
    calibration: Calibration | None = None
    """the `temperature` that was fitted on the validation images; `error_before` and `error_after`:
    the calibration error of the test images without and with it"""
    base: Base | None = None
    """for `extract-features`: `name`, `weights`, `alpha` and `cut` of the backbone"""
    features_only: bool = False
    """for `extract-features`: whether it was started with `--features-only`, which `--resume`
    keeps"""
    source: Source | None = None
    """for `finetune`: `run`, the folder of the initial run, and the digest of its `weights`"""
    features: dict[Text, _Row] = Field(default={})
    """for each layer: `precision`, `dtype` and `views` of the cached training features, and
    `num_computed`, the number of images whose features were computed in this run"""
    inverse_penalty: float | None = None
    """for `extract-features` with a logistic head: the inverse penalty that was chosen by
    validation, scikit-learn's `C`"""
    freeze_proof: dict[Text, FrozenLayer] = Field(default={})
    """for each layer: `trained`, and the SHA-256 of its weights `before` and `after`. The two are
    equal for a layer in `without_gradient`, and if the initial weights were kept"""
    find_lr: _Row | None = None
    """for `fit --find-lr`: `suggestion`, the learning rate at which half of the decrease of the
    loss was reached, or null; `lowest`, the learning rate with the lowest loss; `steps`"""
    reading: list[RecordedReading] | None = None
    """diagnosis of the learning curves and the saved model, the most important first: `finding`
    (its kind), `detail`, and `proposal`, a change of the config in YAML, or empty"""
    mislabels: JudgedLabels | None = None
    """`num`, the number of likely mislabels; `judged`, the number of judged images of each split;
    `left_out`, the reason why validation and test are not judged if `learnt` is false"""
    mistakes: Explained = Explained()
    """about the folder `mistakes/`: `num`, `method`, and `layer`, or `without_maps`, the reason why
    there are no maps; `left_out`, the reason why there is no such folder if `learnt` is false"""
    mlflow: dict[Text, Text] = Field(default={})
    """with `log: [mlflow]`: `run_id`, the id of the run in MLflow"""
    rungs: list[Rung] = Field(default=[])
    """for a ladder: the rows of its table"""
    estimates: dict[Text, _Seconds] = Field(default={})
    """for a ladder: the estimated seconds of each stage"""
    blocks: list[_Row] = Field(default=[])
    """for a probe: the rows of `probe.csv`, in the order of measurement"""
    best: _Row = Field(default={})
    """for a probe: the most accurate block"""
    recommended: _Row = Field(default={})
    """for a probe: the cheapest block within one standard error of `best`"""
    points: list[_Row] = Field(default=[])
    """for a learning curve: the rows of `learning_curve.csv`"""
    curve: list[_Row] = Field(default=[])
    """for a learning curve: `num_images`, `accuracy` and `accuracy_interval` of each share"""
    forecast: list[_Row] = Field(default=[])
    """for a learning curve: the same and `gain_interval` for each `factor` of its images"""
    verdict: Text = ""
    """for a learning curve: `flat`, `growing`, or `unknown` if there are too few sizes"""
    exact: bool = True
    """whether the run equals an uninterrupted run; false if `--accept-changes` continued it after
    something had changed. Absent in runs of earlier versions"""
    accepted_changes: list[AcceptedChanges] = Field(default=[])
    """what `--accept-changes` accepted: `when`, and `changes`, one line for each difference"""
    identity: Identity = Identity()
    """digests that `--resume` compares: SHA-256 of `config.yaml` (`config`), of the images (`data`)
    and of each weights file that the run starts from (`weights`, by key of the config, or
    `source`)"""
    environment: Environment | None = None
    """other facts that results depend on: `instructions`, the processor instructions that determine
    the kernels (null if unknown); `threads`, the numbers that were `available` to the process and
    that `opencv` uses; `variables`, environment variables that change numbers"""
    reproduces: Source | None = None
    """for `cvtrain reproduce`: `run`, the folder of the first run, and the digest of its
    `weights`"""
    seconds: dict[Text, _Seconds] = Field(default={})
    """time in seconds, `total` and for each phase: `data`, `import`, `precision`, `extract`,
    `train`, `classify`, `estimate`, `evaluate`, `draw`, `judge`, `explain`. A resumed run adds
    its time"""
    versions: dict[Text, Text] = Field(default={})
    """versions of Python, cvtrain, Keras, NumPy, the engine, OpenCV, Pillow and scikit-learn"""

    @property
    def test(self) -> DetailedScores:
        """Metrics of the test images; only of a run that has `metrics`."""
        assert self.metrics is not None
        return self.metrics.test


def read_record(content: Any, shown: str) -> RunRecord:
    """The content of a `run.json`, checked.

    Args:
        content: what its JSON text says.
        shown: how the file is called in an error.

    Raises:
        RunError: it is of a later version, or a field is missing or of another type.
    """
    fields = content if isinstance(content, dict) else {}
    for name, kind in {"format": int, "command": str, "status": str, "started": str}.items():
        if not isinstance(fields.get(name), kind):
            raise RunError(f"{shown}: not written by cvtrain, it has no usable '{name}'")
    if fields["format"] > FORMAT:
        raise RunError(
            f"{shown}: format {fields['format']}, and this cvtrain reads up to {FORMAT}",
            "Update cvtrain: pip install --upgrade cvtrain",
        )
    return checked(RunRecord, content, shown)
