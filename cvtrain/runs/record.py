"""What `run.json` may say: the one schema that writes it, reads it, checks a stranger's, and makes
the table of docs/run-folder.md.

What a run does not know yet, or did not know in an earlier version, is left out of its file and has
its default here; `Run.require` says what a run must have.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator

from cvtrain.errors import RunError
from cvtrain.runs.validation import FileName, JsonObject, Text, checked

FORMAT = 1


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a name stands in it twice")
    return names


def _range(value: object) -> object:
    is_pair = isinstance(value, list) and len(value) == 2
    if value != "auto" and not (
        is_pair and all(type(each) is int for each in value) and 0 <= value[0] < value[1] <= 65_535
    ):
        raise ValueError(f"must be auto, or two numbers that rise; received {value!r:.80}")
    return value


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
    """Of one split: `metrics.summarize`."""

    num_images: Annotated[int, Field(ge=1)]
    accuracy: Share
    accuracy_interval: Interval
    loss: float


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
    """as `.validation`; in runs with a frozen base of at most 1,000 training images, those in
    `predictions-train.csv`"""
    validation: Scores | None = None
    """of the saved model on unaugmented images: `num_images`, `accuracy`, `accuracy_interval`,
    `loss`"""
    test: DetailedScores
    """as `.validation`, and `calibration_error`, `per_class` (`num_images`, `precision`,
    `recall`, `f1`), `confusion_matrix`"""


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
    problems: list[Problem] = Field([])


class Data(JsonObject):
    """The images of a run."""

    root: Text
    """the folder that file names count from"""
    digest: Text = ""
    """SHA-256 over split, path, class and content of every file"""
    counts: dict[Text, dict[Text, _Count]] = Field({})
    """`{split: {class: images}}`"""
    check: Check | None = None
    """what the check found, counts of files: `num_files`, `bad` (unusable, or one image under
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
    judged: dict[Text, _Count] = Field({})
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
    """The frozen base of `extract-features`; one that is an earlier run has no name."""

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
    weights: dict[Text, Text] = Field({})


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
    """why it stopped or failed; absent otherwise"""
    started: _Moment
    """UTC, ISO 8601"""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """from the config"""
    class_names: _ClassNames = ()
    """in the order of the model's output: natural order, `1`, `2`, `10` and `cat`, `Dog`"""
    image_size: _ImageSize = (0, 0)
    """height, width"""
    decoder: DecoderSettings | None = None
    """`resize`, `background` and `range`, as in the config"""
    data: Data = Data(root="")
    device: Text = ""
    """where it was computed"""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """that training computed in"""
    num_parameters: _Count | None = None
    """of the model"""
    weights_sha256: Text = ""
    """SHA-256 over path, dtype, shape and bytes of every weight of `model.keras`"""
    outcome: Text = ""
    """`finished`, `early_stopped`, `stopped`, or `diverged`: losses, weights or what the
    optimizer keeps were no longer finite, exit code 6"""
    epochs: _Count | None = None
    """epochs trained, all of them finite"""
    best_epoch: _Count | None = None
    """the one whose weights were kept. 0: those that `finetune` started from; null: none had
    ended"""
    start: StartedFrom | None = None
    """of `finetune`: `val_loss` and `val_accuracy` of the model that it started from, its
    `test_accuracy`, and `p` of McNemar's exact test of that against the saved model's"""
    learnt: bool = True
    """whether the saved model is better than guessing on the validation and test images, see
    [training.md](training.md). Absent in runs of earlier versions"""
    constant_features: _Texts = ()
    """layers of the frozen base that give the same for all training images; absent where there
    are none"""
    without_gradient: _Texts = ()
    """layers that were to be trained and did not change, because the loss does not depend on
    them; absent where there are none"""
    metrics: Metrics | None = None
    calibration: Calibration | None = None
    """`temperature` that fits the validation images best; `error_before` and `error_after`: the
    calibration error of the test images without and with it"""
    base: Base | None = None
    """of `extract-features`: `name`, `weights`, `alpha`, `cut`"""
    features_only: bool = False
    """of `extract-features`: begun with `--features-only`, which `--resume` keeps"""
    source: Source | None = None
    """of `finetune`: `run`, the folder it started from, and the digest of its `weights`"""
    features: dict[Text, _Row] = Field({})
    """by layer: `precision`, `dtype`, `views` of the cached training features, and
    `num_computed`: images that had to be run through the base"""
    inverse_penalty: float | None = None
    """of `extract-features` with a logistic head: the strength that cross-validation chose,
    scikit-learn's `C`"""
    freeze_proof: dict[Text, FrozenLayer] = Field({})
    """by layer: `trained`, and the SHA-256 of its weights `before` and `after`; the same for a
    layer in `without_gradient`, or where the weights from before the training were kept"""
    find_lr: _Row | None = None
    """of `fit --find-lr`: `suggestion`, the learning rate at which half of the fall of the loss
    was done, or null; `lowest`, the one at which it was lowest; `steps`"""
    reading: list[RecordedReading] | None = None
    """what the curves and the saved model say, the most important first: `finding` (its kind),
    `detail`, and `proposal`, YAML to try or empty"""
    mislabels: JudgedLabels | None = None
    """`num` images that are likely labelled wrongly, of how many `judged` in each split;
    `left_out`: why validation and test are not judged, where `learnt` is false"""
    mistakes: Explained = Explained()
    """of `mistakes/`: `num`, `method`, and `layer`, or `without_maps`: why there are none;
    `left_out`: why there is no such folder, where `learnt` is false"""
    mlflow: dict[Text, Text] = Field({})
    """with `log: [mlflow]`: `run_id`, of the run in MLflow"""
    rungs: list[Rung] = Field([])
    """of a ladder: the lines of its table"""
    estimates: dict[Text, _Seconds] = Field({})
    """of a ladder: the seconds that were expected of each rung"""
    blocks: list[_Row] = Field([])
    """of a probe: the lines of `probe.csv`, in the order they were measured"""
    best: _Row = Field({})
    """of a probe: the most accurate block"""
    recommended: _Row = Field({})
    """of a probe: the cheapest block within one standard error of `best`"""
    points: list[_Row] = Field([])
    """of a learning curve: the lines of `learning_curve.csv`"""
    curve: list[_Row] = Field([])
    """of a learning curve: by share, `num_images`, `accuracy`, `accuracy_interval`"""
    forecast: list[_Row] = Field([])
    """of a learning curve: by `factor` of its training images, the same and `gain_interval`"""
    verdict: Text = ""
    """of a learning curve: `flat`, `growing`, or `unknown` for want of sizes"""
    exact: bool = True
    """whether the run is what it would be without interruption; false once `--accept-changes`
    continued it though something had changed. Absent in runs of earlier versions"""
    accepted_changes: list[AcceptedChanges] = Field([])
    """where that was so: `when`, and `changes`, one line for each difference"""
    identity: Identity = Identity()
    """what `--resume` must find unchanged: SHA-256 of `config.yaml` (`config`), of the images
    (`data`) and of each file of weights that the run starts from (`weights`, by key of the
    config, or `source`)"""
    environment: Environment | None = None
    """what numbers depend on besides: `instructions` of the processor by which kernels are
    chosen (null where the system does not tell), `threads` that were `available` to the process
    and that `opencv` uses, `variables` of the environment that change numbers"""
    reproduces: Source | None = None
    """of `cvtrain reproduce`: `run`, the folder of the first run, and the digest of its
    `weights`"""
    seconds: dict[Text, _Seconds] = Field({})
    """`total`, and by phase: `data`, `import`, `precision`, `extract`, `train`, `classify`,
    `estimate`, `evaluate`, `draw`, `judge`, `explain`; a resumed run adds up"""
    versions: dict[Text, Text] = Field({})
    """Python, cvtrain, Keras, NumPy, the engine, OpenCV, Pillow and scikit-learn"""


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
