"""Models that mean harm, opened by the commands that open models: nothing runs, nothing is read.

Every row goes through `visualize MODEL`, and those that stand for a known vulnerability, as the
model of a run, through `predict RUN`, too.
"""

import json
import shutil

import numpy as np
import pytest
from hostile_models import HARMLESS, MODELS, NOT_FINITE, write_not_finite
from keras_archives import SHAPE, archive
from PIL import Image
from run_folders import make_run
from tiny_images import make_images
from watched import SECRET, Case, Sandbox

from cvtrain.errors import RunError
from cvtrain.models.keras_file import HARMLESS as ALLOWED
from cvtrain.models.keras_file import check_keras_file

OTHERS = (
    "evaluate run --data ../photos",
    "finetune --from run",
    "extract-features",
    "summary --stage extract-features",
    "visualize run --depth",
)
_MOST_MEGABYTES = 400


class Opened:
    """A sandbox in which all models have been opened.

    Attributes:
        watched: what the process did.
        before, after: what was outside.
    """

    def __init__(self, path):
        sandbox = Sandbox(path)
        self.inside = here = sandbox.inside
        Image.fromarray(np.full((*SHAPE[:2], 3), 99, np.uint8)).save(here / "photo.png")
        run = make_run(here / "template", image_size=SHAPE[:2]).path
        archive(run / "model.keras")
        cases = []
        for name, write in self._models().items():
            folder = here / name
            folder.mkdir()
            write(folder / "x.keras", sandbox.outside)
            look = ["visualize", "x.keras", "../photo.png", "--method", "saliency"]
            cases.append(Case(f"visualize {name}", folder, look))
            if name in MODELS and not MODELS[name].cve:
                continue
            shutil.copytree(run, folder / "run")
            shutil.copy(folder / "x.keras", folder / "run" / "model.keras")
            cases.append(Case(f"predict {name}", folder, ["predict", "run", "../photo.png"]))
        for command in OTHERS:
            cases.append(Case(command, here / "lambda", command.split()))
        warm_up = [
            Case("", here, ["predict", "template", "photo.png"]),
            Case("", here, ["visualize", "template", "photo.png", "--method", "saliency"]),
            Case("", here, ["visualize", "template/model.keras", "photo.png", *look[3:]]),
        ]
        make_images(
            here / "photos",
            {f"{s}/{c}": 2 for s in ("train", "validation", "test") for c in ("cat", "dog", "owl")},
        )
        (here / "lambda" / "config.yaml").write_text(
            "data: {source: ../photos, image_size: [16, 20]}\n"
            "extract_features: {backbone: {weights: run}}\n"
        )
        self.before = sandbox.snapshot()
        self.watched = sandbox.watch(warm_up, cases)
        self.after = sandbox.snapshot()
        self.outcomes = self.watched.outcomes

    @staticmethod
    def _models():
        def broken(value):
            return lambda path, _: write_not_finite(path, value)

        return (
            {name: row.write for name, row in MODELS.items()}
            | HARMLESS
            | {name: broken(value) for name, value in NOT_FINITE.items()}
        )


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return Opened(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", MODELS)
def test_a_hostile_model_is_refused_in_a_line(opened, name):
    _assert_refused(opened.outcomes[f"visualize {name}"], name, "x.keras")


@pytest.mark.parametrize("name", [name for name, row in MODELS.items() if row.cve])
def test_so_is_the_model_of_a_run(opened, name):
    _assert_refused(opened.outcomes[f"predict {name}"], name, "run/model.keras")


def _assert_refused(outcome, name, file):
    assert outcome.code == 4, outcome.told
    assert MODELS[name].says in outcome.told
    message, *advice = outcome.told.strip().splitlines()
    assert message.startswith(file)
    assert len(advice) <= 1
    assert len(message) < 500
    assert outcome.told.replace("\n", "").isprintable()
    assert outcome.out == b""


@pytest.mark.parametrize("command", OTHERS)
def test_no_other_command_opens_one(opened, command):
    outcome = opened.outcomes[command]
    assert outcome.code == 4, outcome.told
    assert MODELS["lambda"].says in outcome.told


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_model_is_opened(opened, name):
    for command in ("visualize", "predict"):
        outcome = opened.outcomes[f"{command} {name}"]
        assert outcome.code == 0, outcome.told
        assert b"\x1b" not in outcome.out + outcome.err


@pytest.mark.parametrize("name", NOT_FINITE)
def test_a_model_that_does_not_answer_is_told(opened, name):
    outcome = opened.outcomes[f"predict {name}"]
    assert outcome.code == 4, outcome.told
    assert "not finite" in outcome.told
    assert opened.outcomes[f"visualize {name}"].code in (0, 4)


def test_nothing_outside_is_touched(opened):
    assert opened.after == opened.before
    assert {name: each.events for name, each in opened.outcomes.items() if each.events} == {}
    if opened.watched.traced is None:
        pytest.skip("no strace, which would tell what the libraries below Python did")
    assert opened.watched.traced == []


def test_no_secret_is_told(opened):
    told = b"".join(each.out + each.err for each in opened.outcomes.values())
    assert SECRET.encode() not in told
    pages = [path.read_bytes() for path in opened.inside.rglob("*.html")]
    assert pages
    assert SECRET.encode() not in b"".join(pages)


def test_memory_stays_bounded(opened):
    # What is done for a harmless one takes what it takes; being refused must take little.
    refused = {name: each for name, each in opened.outcomes.items() if each.code}
    assert refused
    rises = {name: round(each.megabytes) for name, each in refused.items()}
    assert {name: rise for name, rise in rises.items() if rise > _MOST_MEGABYTES} == {}


def test_every_class_of_vulnerability_has_a_model():
    numbers = {number for row in MODELS.values() for number in row.cve.split(", ") if number}
    assert numbers >= {
        *("2024-3660", "2024-55459", "2025-1550", "2025-8747", "2025-9905", "2025-9906"),
        *("2025-12058", "2025-12060", "2025-49655", "2026-0897", "2026-1462", "2026-1669"),
        *("2026-12479", "2026-12481"),
    }


def test_every_layer_of_keras_is_known_to_be_harmless_or_left_out():
    # A new layer of Keras is refused until somebody has looked at it, and put it into one of these.
    from cvtrain.backend import keras

    classes = (each for each in vars(keras.layers).values() if isinstance(each, type))
    layers = {each for each in classes if issubclass(each, keras.layers.Layer)}
    harmless = {getattr(keras.layers, name) for name in ALLOWED["keras.layers"]}
    assert {each.__name__ for each in layers - harmless} == {
        *("Layer", "Wrapper", "Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
        *("StringLookup", "IntegerLookup", "TextVectorization", "Hashing", "HashedCrossing"),
        *("CategoryEncoding", "Discretization", "MelSpectrogram", "STFTSpectrogram"),
        *("RNN", "LSTM", "GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell"),
        *("StackedRNNCells", "Bidirectional", "TimeDistributed", "ReversibleEmbedding"),
        *("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
        # Takes hundreds of times the memory of its output, which is what is bounded.
        "ContrastLimitedAdaptiveHistogramEqualization",
    }
    assert harmless <= layers


def test_every_activation_of_keras_is_one():
    from cvtrain.backend import keras

    names = {name for name in dir(keras.activations) if not name.startswith("_")}
    assert ALLOWED["keras.activations"] == names - {"get", "serialize", "deserialize"}


def test_a_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "x.keras")
    with pytest.raises(RunError, match="is not a regular file"):
        check_keras_file(tmp_path / "x.keras")


def test_the_table_is_of_the_files_it_says(tmp_path):
    # Each archive of the table is one that Keras' own reader of archives would open.
    import zipfile

    for name in ("lambda", "vocabulary", "saved model as function", "wide"):
        MODELS[name].write(tmp_path / "x.keras", tmp_path)
        with zipfile.ZipFile(tmp_path / "x.keras") as archive:
            assert archive.testzip() is None
            assert json.loads(archive.read("config.json"))["class_name"] == "Functional"
