"""The command line: help, exit codes, messages, and what must not be imported."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import click
import pytest
from command_line import run_all
from tiny_images import make_images
from tiny_runs import make_run

from cvtrain import __version__
from cvtrain.cli import cli
from cvtrain.runs.run import Run


def run(*arguments, cwd=None, python=(), env=None):
    """Run `cvtrain` in a process of its own."""
    command = [sys.executable, *python, "-m", "cvtrain", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, env=env)


def commands(group, prefix=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command


COMMANDS = dict(commands(cli))


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"cvtrain {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_help_teaches_by_example(name):
    command = COMMANDS[name]
    assert command.help
    assert f"cvtrain {' '.join(name)}" in command.epilog
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or parameter.help, parameter.name


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_every_command_can_be_quiet_and_debugged(name):
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {"--quiet", "--debug"} <= options


def loaded_modules(arguments, cwd):
    # Else stderr is shut while the engine loads, and its modules are not listed.
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"}
    done = run(*arguments, cwd=cwd, python=("-X", "importtime"), env=env)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


HEAVY = {"tensorflow", "keras", "jax", "torch", "matplotlib", "sklearn"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["fit", "--help"], ["visualize", "--help"], ["--version"]]
)
def test_help_imports_click_and_nothing_else(arguments, tmp_path):
    modules = loaded_modules(arguments, tmp_path)
    assert "click" in modules
    assert not modules & (HEAVY | {"numpy", "pydantic", "rich", "yaml", "PIL", "cv2"})


def test_a_config_error_comes_without_heavy_imports(tmp_path):
    (tmp_path / "config.yaml").write_text("fit: {epoch: 3}\n")
    assert not loaded_modules(["fit"], tmp_path) & (HEAVY | {"numpy", "rich", "PIL", "cv2"})


def test_contradictions_of_visualize_are_told_before_the_engine_is_loaded(tmp_path):
    modules = loaded_modules(["visualize", "model.keras", "--depth"], tmp_path)
    assert "cvtrain.commands.visualize" in modules
    assert not modules & HEAVY


@pytest.mark.parametrize(
    ("option", "message", "advice"),
    [
        (("--class", "grene"), "--class grene: there is no such class", "Did you mean green?"),
        (("--layer", "cnov1"), "run/model.keras has no layer cnov1", "Did you mean conv1?"),
    ],
)
def test_a_mistyped_name_is_told_before_the_engine_is_loaded(option, message, advice, tmp_path):
    unfinished = Run.create(tmp_path / "run", "fit")
    unfinished.update(class_names=["blue", "green", "red"])
    with zipfile.ZipFile(unfinished.model_path, "w") as archive:
        layer = {"module": "keras.layers", "class_name": "Conv2D", "config": {"name": "conv1"}}
        model = {"class_name": "Functional", "module": "keras.src.models.functional"}
        model |= {"config": {"layers": [layer | {"name": "conv1"}]}}
        members = {"config.json": json.dumps(model), "metadata.json": "{}", "model.weights.h5": ""}
        for name, content in members.items():
            archive.writestr(name, content)
    arguments = ["visualize", "run", *option]
    assert not loaded_modules(arguments, tmp_path) & HEAVY
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"{message}\n  {advice}\n"


@pytest.mark.parametrize("command", ["fit", "probe", "learning-curve", "extract-features"])
def test_missing_images_are_told_before_the_engine_is_loaded(command, tmp_path):
    (tmp_path / "config.yaml").write_text("data: {source: nothing}\n")
    assert not loaded_modules([command], tmp_path) & {"tensorflow", "keras"}


def test_a_run_that_changed_is_refused_before_the_engine_is_loaded(tmp_path, image_folder):
    config = f"data: {{source: {image_folder}}}\nfit: {{model: {{filters: [4]}}}}\n"
    Run.create(tmp_path / "run", "fit", files={"config.yaml": config}, name="config")
    arguments = ["fit", "run", "--resume", "--set", "fit.epochs=7"]
    assert not loaded_modules(arguments, tmp_path) & {"tensorflow", "keras"}
    elsewhere = run(*arguments, "--run-dir", "other", cwd=tmp_path)
    assert elsewhere.returncode == 2
    assert elsewhere.stderr.startswith("--run-dir other: run is the run folder to continue\n")
    done = run(*arguments, "--run-dir", "./run", cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.endswith(
        "run: its inputs have changed since it was started:\n  fit.epochs: 30 -> 7\n"
        "  Resume as it was started, start a new run, or add --accept-changes: the run then goes "
        "on, and says that it is not exact.\n"
    )


def test_resume_takes_the_newest_run_that_is_not_finished(tmp_path, image_folder):
    config = f"data: {{source: {image_folder}}}\nfit: {{model: {{filters: [4]}}}}\n"
    (tmp_path / "config.yaml").write_text(config)
    for name, status in (("a", "stopped"), ("b", "finished")):
        made = Run.create(tmp_path / "runs" / name, "fit", files={"config.yaml": config})
        made.update(name="config", status=status, started=f"2026-01-0{ord(name) - 96}")
    done = run("fit", "--resume", "--set", "fit.epochs=7", cwd=tmp_path)
    assert "runs/a: its inputs have changed since it was started" in done.stderr
    made = Run.open(tmp_path / "runs" / "a")
    made.update(status="finished")
    done = run("fit", "--resume", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "runs/b is finished; there is nothing to resume\n")
    shutil.rmtree(tmp_path / "runs")
    done = run("fit", "--resume", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (4, "")
    assert "runs: there is no run to continue" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["check"], ["stats"], ["split", "--output", "manifest.csv"]], ids=" ".join
)
def test_looking_at_images_does_not_import_the_engine(arguments, tmp_path, image_folder):
    modules = loaded_modules(["data", *arguments, image_folder], tmp_path)
    assert "PIL" in modules
    assert not modules & {"tensorflow", "keras"}


def test_calibrate_does_not_import_the_engine(tmp_path):
    make_run(tmp_path / "run")
    modules = loaded_modules(["calibrate", "run", "--coverage", "0.9"], tmp_path)
    assert (tmp_path / "run" / "abstention.json").exists()
    assert not modules & {"tensorflow", "keras"}


def test_a_config_error_exits_2_with_line_and_advice(tmp_path):
    (tmp_path / "config.yaml").write_text("data: {source: digits}\nfit: {epoch: 3}\n")
    done = run("fit", cwd=tmp_path)
    assert done.returncode == 2
    assert "config.yaml:2: fit.epoch: there is no such key. Did you mean fit.epochs?" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "config.yaml"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fitt"], 2, "Did you mean 'fit'?"),
        (["fit", "--epochs", "3"], 2, "No such option"),
        (["fit"], 2, "config.yaml: there is no such file"),
        (["fit", "nothing.yaml"], 2, "nothing.yaml: there is no such file"),
        (["fit", "--resume"], 2, "there is no such file"),
        (["fit", "--find-lr", "--resume"], 2, "--find-lr cannot be resumed"),
        (["evaluate"], 4, "runs: there is no run with a model"),
        (["evaluate", "nothing"], 4, "nothing: there is no such run folder"),
        (["predict", "a.jpg"], 4, "there is no run with a model"),
        (["predict"], 2, "Missing argument"),
        (["predict", "a.jpg", "--output", "x.txt"], 2, "must end in .csv or .json"),
        (["predict", "a.jpg", "--top", "0"], 2, "0 is not in the range"),
        (["calibrate"], 4, "there is no run with a model"),
        (["reproduce"], 4, "runs: there is no run with a model"),
        (["reproduce", "nothing"], 4, "nothing: there is no such run folder"),
        (["calibrate", "--risk", "0.1", "--off"], 2, "received --risk --off"),
        (["calibrate", "--risk", "x"], 2, "'x' is not a valid float"),
        (["visualize"], 4, "runs: there is no run with a model"),
        (["visualize", "--cam", "--filters"], 2, "received --cam --filters"),
        (["visualize", "model.keras"], 2, "model.keras: a model file needs images"),
        (["visualize", "a b.keras"], 2, "For example: cvtrain visualize 'a b.keras' photos/"),
        (["visualize", "model.keras", "--depth"], 2, "--depth compares test images"),
        (["visualize", "--seed", "-1"], 2, "-1 is not in the range"),
        (["visualize", "--seed", str(2**32)], 2, "4294967296 is not in the range"),
        (["visualize", "--style", "big"], 2, "'big' is not one of 'book', 'distill'"),
        (["visualize", "--pixel-range", "0..2"], 2, "'0..2' is not one of"),
        (["data", "check", "nothing"], 3, "nothing: no such folder or file"),
        (["data", "check", "digit"], 3, "Did you mean the named set digits?"),
        (["data", "check", "."], 3, "no images"),
        (["data", "check", ".", "--set", "data.label_pattern=cat"], 2, "must have one group"),
        (["data", "stats", "."], 3, "no images"),
        (["data", "split", "."], 2, "Missing option '--output'"),
        (["data", "split", ".", "--output", "m.txt"], 2, "must end in .csv"),
        (["data", "split", ".", "--output", "m.csv"], 3, "no images"),
        (["data", "split", ".", "--output", "m.csv", "--group", "p"], 2, "--group p: must have"),
        (["data", "split", ".", "--output", "m.csv", "--test", "1"], 2, "is not in the range"),
        (
            ["data", "split", ".", "--output", "m.csv", "--columns", "{a: b}"],
            2,
            "--columns {a: b}: data.columns.a: there is no such key",
        ),
        (["init", "l.csv", "--columns", "{path: 1"], 2, "--columns {path: 1: not valid YAML"),
        (["evaluate", "--columns", "id"], 2, "--columns id: data.columns: must be a section"),
        (["data", "fetch", "mnits"], 2, "Did you mean mnist?"),
        (["data", "fetch", "mnist", "--file", "a.npz"], 3, "a.npz: there is no such file"),
    ],
)
def test_mistakes_have_an_exit_code_and_a_message(tmp_path, arguments, code, words):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback(tmp_path):
    done = run("fit", "nothing.yaml", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [("cvtrain vis", "visualize"), ("cvtrain visualize --method laye", "layercam")],
)
def test_a_shell_completes_commands_and_choices(words, expected):
    position = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = run(env=os.environ | position | {"_CVTRAIN_COMPLETE": "bash_complete"})
    assert (done.returncode, done.stdout) == (0, f"plain,{expected}\n")


def test_a_closed_pipe_is_no_error(tmp_path, image_folder):
    command = f"{sys.executable} -m cvtrain data check {image_folder} | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


_PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"PYTHONIOENCODING": "utf-8"}, "a\U0001f600\xe9"),
        ({"PYTHONIOENCODING": "latin-1"}, "a\\U0001f600\xe9"),
        ({"PYTHONIOENCODING": "cp1252:strict"}, "a\\U0001f600\xe9"),
        ({"PYTHONIOENCODING": "ascii:strict"}, r"a\U0001f600\xe9"),
        # Python then takes every name for bytes.
        (_PLAIN_C, r"a\udcf0\udc9f\udc98\udc80\udcc3\udca9"),
    ],
    ids=["utf-8", "latin-1", "cp1252", "ascii", "C"],
)
def test_what_an_encoding_does_not_have_is_escaped_on_both_streams(settings, shown, tmp_path):
    name = "a\U0001f600\xe9.png"
    make_images(tmp_path, {"photos/cat": 4, "photos/dog": 4})
    (tmp_path / "photos/cat" / name).write_bytes(b"no image")
    encoding = settings.get("PYTHONIOENCODING", "ascii").partition(":")[0]
    for arguments, code, stream in (
        (["data", "check", "photos"], 3, "stdout"),
        (["fit", name], 2, "stderr"),
        ([name], 2, "stderr"),
    ):
        command = [sys.executable, "-m", "cvtrain", *arguments]
        env = os.environ | settings
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=env, timeout=120)
        assert done.returncode == code, done.stderr
        assert shown in getattr(done, stream).decode(encoding)


PROJECT = """
precision: float32
data: {{source: {source}, image_size: [16, 20]}}
fit:
  model: {{filters: [4, 8], dense: []}}
  epochs: 1
extract_features:
  backbone: {{weights: runs/base}}
  head: {{dense: []}}
  epochs: 1
finetune: {{epochs: 1}}
"""


@pytest.mark.slow
def test_the_commands_follow_one_another_without_an_argument(tmp_path, image_folder):
    (tmp_path / "config.yaml").write_text(PROJECT.format(source=image_folder))
    lines = ["fit --run-dir runs/base", "extract-features", "finetune", "evaluate"]
    lines += [f"predict {image_folder}/test/red", "visualize --cam"]
    told, _ = run_all({line: line.split() for line in lines}, tmp_path)
    assert {line: each.err for line, each in told.items() if each.code} == {}
    commands = [path.name.split("-", 2)[2] for path in sorted((tmp_path / "runs").glob("2*"))]
    assert commands == ["extract-features-config", "finetune-config"]
    newest = sorted((tmp_path / "runs").glob("2*"))[-1]
    assert (newest / "evaluate" / "test" / "metrics.json").exists()
    assert (newest / "visualize" / "gradcam" / "index.html").exists()
