"""Whatever copies there are, a command draws its splits or says why it cannot."""

import h5py
import pytest
from command_line import run_all
from odd_copies import DEALT, REFUSED, all_three_times

from cvtrain.commands.fit import fit
from cvtrain.config import load_config
from cvtrain.runs.run import RunRequest
from cvtrain.system.console import Console

CASES = {make.__name__: make for make in (*DEALT, *REFUSED)}
COMMANDS = ("check", "split", "stats", "init", "fit")
LOOKED_AT = list(CASES)[::4]  # drawing pictures of all would take half of a minute
CONFIG = """
precision: float32
data: {{source: {source}, image_size: 16, on_bad: skip}}
fit: {{epochs: 1, model: {{filters: [4]}}}}
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What every command says about every set: {(set, command): Told}."""
    here = tmp_path_factory.mktemp("copies")
    weights = here / "mobilenet_2_5_224_tf_no_top.h5"  # so that none are looked for
    h5py.File(weights, "w").close()
    commands = {}
    for name, make in CASES.items():
        (here / name).mkdir()
        root = here / name / "photos"
        source = str(make(root) or root)
        out = str(here / name / "out")
        commands |= {
            f"{name} check": ["data", "check", source],
            f"{name} split": ["data", "split", source, "--output", f"{out}.csv"],
            f"{name} init": ["init", source, "--no-estimate", "--output", f"{out}.yaml"],
        }
        commands[f"{name} init"] += ["--weights", str(weights)]
        if name in LOOKED_AT:
            commands[f"{name} stats"] = ["data", "stats", source, "--output", out]
        if make in REFUSED:
            config = here / name / "fit.yaml"
            config.write_text(CONFIG.format(source=source))
            commands[f"{name} fit"] = ["fit", str(config)]
    found, _ = run_all(commands, here)
    return {tuple(key.split()): what for key, what in found.items()}


@pytest.mark.parametrize("name", CASES)
def test_every_command_ends_with_an_answer(told, name):
    for command in COMMANDS:
        if (name, command) in told:
            code, _, err = told[name, command]
            assert code in (0, 3), (command, err)
            assert "Traceback" not in err
            if code == 3:
                assert err.splitlines()[-1].startswith("  "), (command, err)


@pytest.mark.parametrize("make", DEALT, ids=lambda make: make.__name__)
def test_every_split_gets_its_share_of_different_images(told, make):
    for command in ("split", "init"):
        code, out, err = told[make.__name__, command]
        assert code == 0, err
        assert DEALT[make] in out
    assert " test images" in told[make.__name__, "check"].out


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_cannot_be_dealt_out_is_told(told, make):
    for command in ("check", "split", "fit"):
        code, _, err = told[make.__name__, command]
        assert code == 3
        assert REFUSED[make] in err


@pytest.mark.parametrize("name", LOOKED_AT)
def test_statistics_are_of_every_set(told, name):
    code, _, err = told[name, "stats"]
    assert code == 0, err
    if what := REFUSED.get(CASES[name]):  # but for the reasons that only the check knows
        assert what.split(": ")[0] in err


def test_a_class_that_init_can_do_without_is_left_out(told):
    code, out, _ = told["all_of_a_class_in_another", "init"]
    assert code == 0
    assert "too rare to split  wolf " in out
    assert "2 classes, 16 train, 4 validation, 4 test images" in out
    others = {name for (name, command), what in told.items() if command == "init" and what.code}
    assert others == {make.__name__ for make in REFUSED} - {"all_of_a_class_in_another"}


def test_what_was_dealt_out_is_trained_on(tmp_path):
    all_three_times(tmp_path / "photos")
    (tmp_path / "fit.yaml").write_text(CONFIG.format(source=tmp_path / "photos"))
    config = load_config(tmp_path / "fit.yaml")
    run = fit(config, RunRequest(tmp_path / "run", "fit", False), Console(quiet=True))
    assert run.content["metrics"]["test"]["num_images"] == 12
