"""Run folders that mean harm. Each row changes a finished run that is in order.

Most rows stop every command that opens the run, with the same words; others only those commands
that need what is wrong.
"""

# ruff: noqa: ARG001 - every row is called alike

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

IS_LINK = "is a link, and a run folder holds none"


@dataclass(frozen=True)
class Hostile:
    """One row.

    Attributes:
        write: (folder of the run, folder outside) -> None.
        says: what must be said.
        by: the commands that must say so; none: every command that opens a run.
    """

    write: Callable[[Path, Path], None]
    says: str
    by: tuple[str, ...] = ()


def link(name, target):
    """A link in the run to something outside, in the place of what is there."""

    def write(run, outside):
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(str(target).format(outside=outside))

    return Hostile(write, IS_LINK)


def pipe(name):
    def write(run, outside):
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return Hostile(write, "neither a file nor a folder")


def a_socket(run, outside):
    # The path of a socket has about a hundred characters; a folder that is open has short ones.
    here = os.open(run, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/s")
    os.close(here)


def text(name, content):
    def write(run, outside):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        made = content(outside) if callable(content) else content
        (run / name).write_bytes(made if isinstance(made, bytes) else made.encode())

    return write


def giant(name):
    def write(run, outside):
        with (run / name).open("wb") as file:
            file.truncate(2**36)

    return write


def record(says, **fields):
    """Other fields in `run.json`, which is sealed again by nobody."""

    def write(run, outside):
        content = json.loads((run / "run.json").read_text())
        content.pop("sha256", None)
        for name, value in fields.items():
            content[name] = value(outside) if callable(value) else value
        (run / "run.json").write_text(json.dumps(content))

    return Hostile(write, says)


def broken(name, content, says="cannot be used", by=("report",)):
    return Hostile(text(name, content), says, by)


def images_elsewhere(run, outside):
    content = json.loads((run / "run.json").read_text())
    content.pop("sha256", None)
    content["data"]["root"] = "/"
    (run / "run.json").write_text(json.dumps(content))
    named = str(outside / "named.txt")
    names = {"cat": [named, "/dev/zero"], "dog": [named.lstrip("/")], "owl": ["../x"]}
    (run / "split.json").write_text(json.dumps({"test": names}))
    rows = [
        f"{file},{name},owl,0.9,{int(name == 'owl')},1,0.05,0.05,0.9\n"
        for name, files in names.items()
        for file in files
    ]
    (run / "predictions-test.csv").write_text(HEADER + "".join(rows))


def same_key_twice(run, outside):
    content = (run / "run.json").read_text()
    (run / "run.json").write_text(content.rstrip().removesuffix("}") + ', "class_names": [1]}')


def other_pictures(run, outside):
    entry = {
        "file": "x",
        "true": "cat",
        "predicted": "dog",
        "p_true": 0.1,
        "p_predicted": 0.9,
        "picture": f"../../../../outside/{outside.name}",
    }
    (run / "mistakes").mkdir()
    (run / "mistakes" / "mistakes.json").write_text(json.dumps([entry]))


def a_ladder_of_others(run, outside):
    content = json.loads((run / "run.json").read_text())
    content.pop("sha256", None)
    rungs = [{"run": "../../outside"}, {"run": "/etc"}]
    (run / "run.json").write_text(json.dumps(content | {"command": "ladder", "rungs": rungs}))


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
_OF_PREDICTIONS = ("report", "compare", "calibrate")
_OF_THRESHOLDS = ("report", "predict")
HEADER = "file,label,prediction,confidence,correct,loss,p(cat),p(dog),p(owl)\n"

RUNS: dict[str, Hostile] = {
    # Links and what is no file
    "model elsewhere": link("model.keras", "/etc/passwd"),
    "report elsewhere": link("report.html", "{outside}/victim.txt"),
    "log elsewhere": link("log.txt", "{outside}/victim.txt"),
    "lock elsewhere": link(".lock", "{outside}/victim.txt"),
    "figures elsewhere": link("figures", "{outside}"),
    "config elsewhere": link("config.yaml", "{outside}/secret.txt"),
    "split elsewhere": link("split.json", "{outside}/secret.txt"),
    "record elsewhere": link("run.json", "{outside}/secret.txt"),
    "checkpoints elsewhere": link("checkpoints", "{outside}"),
    "evaluation elsewhere": link("evaluate/test", "{outside}"),
    "predictions without end": link("predictions-test.csv", "/dev/zero"),
    "link to itself": link("visualize", "visualize"),
    "pipe for history": pipe("history.csv"),
    "pipe for abstention": pipe("abstention.json"),
    "socket": Hostile(a_socket, "neither a file nor a folder"),
    # run.json
    "no JSON": Hostile(text("run.json", "{{7*7}}"), "not valid JSON"),
    "deep": Hostile(text("run.json", "[" * 100_000), "not valid JSON"),
    "giant": Hostile(giant("run.json"), "larger than any"),
    "NaN": record("not valid JSON", seconds={"total": float("nan")}),
    "endless number": Hostile(text("run.json", '{"format": ' + "9" * 5000 + "}"), "not valid JSON"),
    "a list": Hostile(text("run.json", "[1, 2]"), "not written by cvtrain"),
    "key twice": Hostile(same_key_twice, "class_names"),
    "later format": record("format 9", format=9),
    "format of truth": record("format", format=True),
    "classes are numbers": record("class_names", class_names=[1, 2, 3]),
    "classes are a text": record("class_names", class_names="cat"),
    "class twice": record("stands in it twice", class_names=["a", "a", "b"]),
    "no classes": record("class_names", class_names=[]),
    "negative size": record("image_size", image_size=[-16, 20]),
    "enormous size": record("image_size", image_size=[10**9, 10**9]),
    "size of texts": record("image_size", image_size=["16", "20"]),
    "size of three": record("image_size", image_size=[16, 20, 3]),
    "no decoder": record("decoder", decoder={}),
    "odd decoder": record("decoder", decoder={"resize": "x", "background": [0, 0, 0]}),
    "bright decoder": record("decoder", decoder={"resize": "pad", "background": [999, 0, 0]}),
    "empty range": record(
        "decoder", decoder={"resize": "pad", "background": [0, 0, 0], "range": [5, 5]}
    ),
    "no data": record("data", data=[]),
    "root is a number": record("data.root", data={"root": 5}),
    "negative seed": record("seed", seed=-1),
    "odd precision": record("precision", precision="float8"),
    "features are a text": record("features", features="x"),
    "source is a text": record("source", source="x"),
    "time runs back": record("seconds", seconds={"total": -5}),
    "infinite time": record("seconds", seconds={"total": 10**400}),
    # What only some commands read
    "a billion epochs": Hostile(
        record("", epochs=-1, best_epoch=10**9).write, "epochs", ("report", "compare")
    ),
    "metrics of others": Hostile(
        record("", metrics={"test": {"accuracy": 7}}).write, "metrics", ("report", "compare")
    ),
    "images elsewhere": Hostile(images_elsewhere, "", ("report", "evaluate", "visualize")),
    "split is a list": broken("split.json", "[1]", "split.json", ("report", "evaluate")),
    "split of numbers": broken(
        "split.json", '{"test": {"cat": [1, 2]}}', "split.json", ("report", "visualize")
    ),
    "split with an end": broken(
        "split.json", r'{"test": {"cat": ["a\u0000b"]}}', "split.json", ("report", "evaluate")
    ),
    "split of nothing": broken("split.json", "{}", "no", ("visualize", "evaluate")),
    "odd predictions": broken(
        "predictions-test.csv", HEADER + "x,cat,cat,1,1,0,1,-1,1\n", by=_OF_PREDICTIONS
    ),
    "short predictions": broken("predictions-test.csv", HEADER + "x,cat\n", by=_OF_PREDICTIONS),
    "wide predictions": broken("predictions-test.csv", HEADER + "x" * 200_000, by=_OF_PREDICTIONS),
    "giant config": Hostile(giant("config.yaml"), "config.yaml", ("report", "fit --resume")),
    "bomb": broken("config.yaml", BOMB, "config.yaml", ("report", "compare", "fit --resume")),
    "tag": broken(
        "config.yaml",
        "!!python/object/apply:os.system ['id']",
        "config.yaml",
        ("report", "evaluate --tta", "fit --resume"),
    ),
    "deep config": broken(
        "config.yaml", "[" * 5000, "config.yaml", ("report", "compare", "fit --resume")
    ),
    "endless history": broken(
        "history.csv", "epoch,loss,accuracy,val_loss,val_accuracy\n1,inf,nan,1e999,0\n"
    ),
    "odd history": broken("history.csv", "epoch,loss\n1\n", by=("report", "compare")),
    "odd threshold": broken(
        "abstention.json", '{"format": 1, "threshold": "x"}', "abstention.json", _OF_THRESHOLDS
    ),
    "negative temperature": broken(
        "abstention.json",
        '{"format": 1, "threshold": 0.5, "temperature": -1, "test": {}}',
        "abstention.json",
        _OF_THRESHOLDS,
    ),
    "infinite temperature": broken(
        "abstention.json",
        '{"format": 1, "threshold": 0.5, "temperature": 1e999}',
        "abstention.json",
        _OF_THRESHOLDS,
    ),
    "other pictures": Hostile(other_pictures, "picture", ("report",)),
    "odd mistakes": broken("mistakes/mistakes.json", '{"a": 1}', "mistakes.json"),
    "odd mislabels": broken(
        "mislabels.csv", "file,split,label,suggestion,p_label,p_suggestion\nx,y,z,a,nan,inf\n"
    ),
    "ladder of others": Hostile(a_ladder_of_others, "", ("report", "compare")),
    "odd measurement": broken("evaluate/<b>/metrics.json", "[]", "metrics.json"),
}
