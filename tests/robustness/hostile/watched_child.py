"""The watched process of `watched.py`: runs commands in turn, and writes a line about each."""

import gc
import json
import os
import sys
import traceback
from pathlib import Path

WATCHED = (
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "urllib.Request"),
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"),
    *("pickle.find_class", "pty.spawn", "ftplib.connect", "http.client.connect"),
)
CHANGES = (
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "shutil.move", "shutil.rmtree", "shutil.copyfile"),
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Notes suspicious audit events while `is_on`."""

    def __init__(self, sandbox: str, outside: str, named: str):
        self.sandbox, self.outside, self.named = sandbox, outside, named
        self.is_on, self.events = False, []

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.is_on:
            return
        if event in WATCHED:
            self.events.append(f"{event} {arguments!r:.200}")
        elif event == "open":
            path, _, flags = arguments
            self._note(event, path, is_write=bool(flags & WRITES))
        elif event in CHANGES:
            for path in arguments[:2]:
                self._note(event, path, is_write=True)

    def _note(self, event: str, path: object, *, is_write: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor, which was opened before
        path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links must not be followed
        if path == self.named and not is_write:
            return
        is_outside = path == self.outside or path.startswith(f"{self.outside}/")
        is_beyond = not path.startswith((f"{self.sandbox}/", "/dev/null"))
        if is_outside or (is_write and is_beyond):
            self.events.append(f"{event} {path}")


def run(main, arguments: list[str]) -> int:
    sys.argv = ["cvtrain", *arguments]
    try:
        main()
    except SystemExit as exit:
        return exit.code or 0
    except BaseException:
        traceback.print_exc()
        return -1
    return -2


def megabytes(field: str) -> float:
    """A field of /proc/self/status: VmRSS is what the process holds, VmHWM the most it has held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def main() -> None:
    todo = json.load(sys.stdin)
    watch = Watch(todo["sandbox"], todo["outside"], todo["named"])
    sys.addaudithook(watch)
    from cvtrain.__main__ import main as cvtrain

    stderr = os.dup(2)
    streams = {number: Path(todo["sandbox"], f"stream{number}") for number in (1, 2)}
    with Path(todo["report"]).open("w") as report:
        for i, (folder, arguments) in enumerate(todo["cases"]):
            os.chdir(folder)
            for number, path in streams.items():
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(handle, number)
                os.close(handle)
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back
            before = megabytes("VmRSS")
            if i == todo["warm_up"]:
                Path(todo["over"]).touch()
                gc.freeze()  # else each collection goes through all that the engine has loaded
            watch.events, watch.is_on = [], i >= todo["warm_up"]
            code = run(cvtrain, arguments)
            watch.is_on = False
            sys.stdout.flush()
            sys.stderr.flush()
            if i < todo["warm_up"]:
                if code:
                    os.write(stderr, streams[2].read_bytes())
                    sys.exit(1)
                continue
            out, err = (path.read_bytes().hex() for path in streams.values())
            line = {"code": code, "out": out, "err": err, "events": watch.events}
            report.write(json.dumps(line | {"megabytes": megabytes("VmHWM") - before}) + "\n")
            report.flush()
            gc.collect()


if __name__ == "__main__":
    main()
