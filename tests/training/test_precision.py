import pytest

from cvtrain import backend
from cvtrain.models.convnet import build_convnet
from cvtrain.models.transfer import suffix_of
from cvtrain.sections import Convnet
from cvtrain.training import precision
from cvtrain.training.precision import Choice, choose_precision


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CVTRAIN_CACHE", str(tmp_path))
    backend.set_up(seed=0, device="cpu")


def _build(name: str, seed: int = 0):
    net = Convnet(filters=(4,), dense=(), dropout=0.5)
    return build_convnet(net, image_size=(8, 8), num_classes=2, precision=name, seed=seed)


def _choose(requested: str = "auto", *, batch_size: int = 4, seed: int = 0) -> Choice:
    return choose_precision(
        requested,
        build=lambda name: _build(name, seed),
        batch_size=batch_size,
        device="cpu: one, 2 threads",
    )


def _measured(monkeypatch, **images_per_second):
    calls = []
    monkeypatch.setattr(
        precision, "_measure", lambda *args: calls.append(args) or images_per_second
    )
    return calls


def test_what_is_asked_for_is_taken_unmeasured(monkeypatch):
    calls = _measured(monkeypatch)
    assert _choose("bfloat16") == Choice("bfloat16", "as given", {})
    assert not calls


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [(100, 106, "bfloat16"), (100, 104, "float32"), (100, 50, "float32")],
)
def test_another_precision_must_win_by_five_percent(monkeypatch, float32, bfloat16, chosen):
    _measured(monkeypatch, float32=float32, bfloat16=bfloat16)
    choice = _choose()
    assert choice.precision == chosen
    assert choice.reason == f"measured images/s: float32 {float32}, bfloat16 {bfloat16}"


def test_a_choice_is_remembered_whatever_the_seed(monkeypatch):
    _measured(monkeypatch, float32=100, bfloat16=200)
    first = _choose()
    again = _measured(monkeypatch, float32=200, bfloat16=100)
    assert _choose(seed=7) == first
    assert not again
    assert _choose(batch_size=5).precision == "float32"
    assert len(again) == 1


def test_a_choice_is_remembered_for_a_part_of_a_net_that_is_made_again(monkeypatch):
    calls = _measured(monkeypatch, float32=100, bfloat16=200)
    parts = [suffix_of(_build("float32"), "pool1") for _ in range(2)]
    assert parts[0].inputs[0].name != parts[1].inputs[0].name
    settings = {"batch_size": 4, "device": "cpu: one, 2 threads"}
    first, again = (choose_precision("auto", build=lambda _, p=p: p, **settings) for p in parts)
    assert first == again
    assert len(calls) == 1
    choose_precision("auto", build=lambda _: suffix_of(_build("float32"), "conv1"), **settings)
    assert len(calls) == 2


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', '{"a": {"precision": "x"}}'])
def test_a_damaged_memory_is_written_anew(monkeypatch, tmp_path, content):
    (tmp_path / "precision.json").write_text(content)
    calls = _measured(monkeypatch, float32=100, bfloat16=200)
    assert _choose() == _choose()
    assert len(calls) == 1


def test_every_candidate_is_measured(monkeypatch):
    monkeypatch.setattr(precision, "_SECONDS", 0.0)
    choice = _choose()
    assert choice.images_per_second.keys() == {"float32", "bfloat16"}
    assert min(choice.images_per_second.values()) > 0
