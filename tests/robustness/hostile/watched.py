"""cvtrain's commands in one process that is watched: what it opens, starts, asks of the network.

Python's audit events tell what Python does, strace (where it is installed) what the libraries below
it do. Everything happens in a sandbox folder; `outside/` in it is what no command has a reason to
touch: a secret, canaries, and whatever hostile files point to.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECRET = "correct horse battery staple"

_CHILD = Path(__file__).with_name("watched_child.py")
_TRACED = (
    "open,openat,openat2,creat,truncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,"
    "rmdir,link,linkat,symlink,symlinkat,chmod,fchmodat,execve,execveat,connect,bind,sendto"
)
_CALL = re.compile(r"\d+ +(\w+)\(")
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND")
_OVER = "warm-up-is-over"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Case:
    """One command: where it is started, and its arguments."""

    name: str
    folder: Path
    arguments: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        code: its exit code.
        out, err: what it wrote, as bytes.
        events: suspicious audit events, in words.
        megabytes: of memory that the process took in the meantime, at its peak.
    """

    code: int
    out: bytes
    err: bytes
    events: tuple[str, ...]
    megabytes: float

    @property
    def told(self) -> str:
        """What a person reads of an error, without remarks."""
        return self.err.decode("utf-8", errors="surrogateescape")


@dataclass(frozen=True)
class Watched:
    """All outcomes, and what strace saw of the whole process (None where there is no strace)."""

    outcomes: dict[str, Outcome]
    traced: list[str] | None


class Sandbox:
    """A folder for commands and hostile files.

    Attributes:
        inside: where commands are started, and may write.
        outside: what they must not touch.
        secret: a file there.
        named: another, with the same content, that a hostile file may name as an image: it may be
            read, unlike all else there.
    """

    def __init__(self, path: Path):
        self.path = path
        self.inside, self.outside = path / "inside", path / "outside"
        self.secret, self.named = self.outside / "secret.txt", self.outside / "named.txt"
        for folder in (self.inside, self.outside, path / "home", path / "tmp"):
            folder.mkdir(parents=True)
        for file in (self.secret, self.named):
            file.write_text(f"{SECRET}\n" * 100)
        (self.outside / "victim.txt").write_text("as it was\n")
        (self.outside / "saved_model.pb").write_bytes(b"\x08\x01")

    def snapshot(self) -> dict[str, bytes | str]:
        """All that is outside: names and contents."""
        return {
            str(path.relative_to(self.outside)): path.read_bytes() if path.is_file() else "folder"
            for path in sorted(self.outside.rglob("*"))
        }

    def watch(self, warm_up: Sequence[Case], cases: Sequence[Case], **settings: str) -> Watched:
        """Run the commands one after the other in one process.

        Args:
            warm_up: commands that load what is loaded once; nothing is recorded of them.
            cases: the commands.
            settings: more of the environment.
        """
        report, trace = self.path / "report.jsonl", self.path / "trace.txt"
        todo = {
            "report": str(report),
            "sandbox": str(self.path),
            "outside": str(self.outside),
            "named": str(self.named),
            "warm_up": len(warm_up),
            "over": str(self.path / _OVER),
            "cases": [[str(c.folder), list(c.arguments)] for c in (*warm_up, *cases)],
        }
        home = str(self.path / "home")
        environment = os.environ | {
            "HOME": home,
            "XDG_CACHE_HOME": f"{home}/cache",
            "MPLCONFIGDIR": f"{home}/matplotlib",
            "CVTRAIN_CACHE": f"{home}/cvtrain",
            "TMPDIR": str(self.path / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "200",
            **settings,
        }
        command = [sys.executable, str(_CHILD)]
        strace = shutil.which("strace")
        if strace:
            options = ["-f", "-qq", "--seccomp-bpf", "-s", "4096", "-e", f"trace={_TRACED}"]
            command = [strace, *options, "-o", str(trace), *command]
        (self.path / "todo.json").write_text(json.dumps(todo))
        with (self.path / "todo.json").open() as stdin:
            done = subprocess.run(
                command, stdin=stdin, capture_output=True, env=environment, timeout=600
            )
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
        outcomes = {}
        with report.open() as lines:
            for case, line in zip(cases, lines, strict=True):
                outcomes[case.name] = _outcome(json.loads(line))
        seen = None
        if strace:
            seen = list(_suspicious(trace, self))
        return Watched(outcomes, seen)


def _outcome(told: dict) -> Outcome:
    return Outcome(
        told["code"],
        bytes.fromhex(told["out"]),
        bytes.fromhex(told["err"]),
        tuple(told["events"]),
        told["megabytes"],
    )


def _suspicious(trace: Path, sandbox: Sandbox) -> Iterator[str]:
    """Lines of strace that touch what is outside; and, once all is warm, that change files beyond
    the sandbox, ask the network, or start a program.
    """
    is_warm = False
    with trace.open(errors="replace") as lines:
        for line in lines:
            paths = [name for name in _QUOTED.findall(line) if name.startswith(("/", "../"))]
            is_warm = is_warm or any(name.endswith(f"/{_OVER}") for name in paths)
            if _is_read(line) and paths == [str(sandbox.named)]:
                continue
            is_outside = any(f"{name}/".startswith(f"{sandbox.outside}/") for name in paths)
            if is_outside or (is_warm and _leaves(line, paths, sandbox.path)):
                yield line


def _leaves(line: str, paths: Sequence[str], sandbox: Path) -> bool:
    call = _CALL.match(line)
    if not call:
        return False
    if call[1].startswith("exec") or "AF_INET" in line:
        return True
    return not _is_read(line) and any(_is_beyond(name, sandbox) for name in paths)


def _is_read(line: str) -> bool:
    call = _CALL.match(line)
    return bool(call) and call[1].startswith("open") and not _WRITES.search(line)


def _is_beyond(name: str, sandbox: Path) -> bool:
    return not name.startswith((str(sandbox), "/dev/", "/proc/self/", "/proc/thread-self/"))
