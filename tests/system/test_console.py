"""What a person sees: results on standard output, the rest on standard error, all in the log."""

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from terminals import in_a_terminal_that_closes

from cvtrain.system.console import Console, LoggingConsole, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (3600, "60 min"),
        (5970, "1 h 40 min"),
        (11_100, "3 h 05 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_results_and_remarks_go_apart(capsys):
    console = Console()
    console.print("the result")
    console.info("a remark")
    console.warning("careful")
    captured = capsys.readouterr()
    assert captured.out == "the result\n"
    assert captured.err == "a remark\nwarning: careful\n"


def test_quiet_leaves_results_and_warnings(capsys):
    console = Console(quiet=True)
    console.print("the result")
    console.info("a remark")
    console.warning("careful")
    captured = capsys.readouterr()
    assert captured.out == "the result\n"
    assert captured.err == "warning: careful\n"


def test_lines_become_records(caplog, capsys, tmp_path):
    caplog.set_level("INFO", logger="lines")
    for quiet in (False, True):
        console = LoggingConsole(logging.getLogger("lines"), quiet)
        console.log_to(tmp_path / "log.txt")
        console.print("the result")
        console.info("a remark\x1b")
        console.info("chosen", always=True)
        console.warning("careful")
        console.table(("class", "images"), [("a", "3")], title="by class")
        with console.training(2) as view, console.task("drawing") as show:
            show(1, 2)
            view.start({"val_loss": 1.0, "val_accuracy": 0.5})
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert found == [
        ("INFO", "the result"),
        ("INFO", "a remark\\x1b"),
        ("INFO", "chosen"),
        ("WARNING", "careful"),
        ("INFO", "by class"),
        ("INFO", "class  images"),
        ("INFO", "a  3"),
        ("INFO", "before: val_loss 1.0000  val_accuracy 0.500"),
        ("INFO", "chosen"),
        ("WARNING", "careful"),
    ]
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "log.txt").read_text().count("a remark") == 2


def test_names_are_no_markup(capsys):
    for text in ("[red]name[/red] [/]", ":smile:.jpg"):
        Console().print(text)
        Console().warning(text)
        captured = capsys.readouterr()
        assert captured.out == f"{text}\n"
        assert captured.err == f"warning: {text}\n"


def test_what_a_terminal_would_obey_is_escaped(capsys, tmp_path):
    name = "\x1b]52;c;eA==\x07a\tb\u202e\r\x9b1m\udce9"
    console = Console()
    console.log_to(tmp_path / "log.txt")
    for say in (console.print, console.info, console.warning):
        say(f"one {name}\ntwo")
    console.table(("file", name), [(name, "1")])
    shown = capsys.readouterr()
    escaped = r"\x1b]52;c;eA==\x07a\tb\u202e\r\x9b1m\udce9"
    assert shown.out == f"one {escaped}\ntwo\nfile\t{escaped}\n{escaped}\t1\n"
    assert shown.err == f"one {escaped}\ntwo\nwarning: one {escaped}\ntwo\n"
    assert (tmp_path / "log.txt").read_text().count(escaped) == 4


def test_a_piped_table_is_tab_separated(capsys):
    Console().table(("class", "images"), [("a [b]", "3"), ("c", "4")], title="unseen")
    assert capsys.readouterr().out == "class\timages\na [b]\t3\nc\t4\n"


def test_on_a_terminal_numbers_stand_to_the_right_and_texts_to_the_left():
    from rich.console import Console as RichConsole

    console, text = Console(), io.StringIO()
    console._out = RichConsole(file=text, force_terminal=True, width=80, color_system=None)
    rows = [("cat", "1,234", "-", "fine"), ("a longer one", "7", "0.5", "not so fine")]
    console.table(("class", "images", "recall", "remark"), rows)
    lines = [
        line.split("│") for line in text.getvalue().splitlines() if "7" in line or "1," in line
    ]
    first, second = lines
    assert [cell.strip() for cell in second[1:-1]] == list(rows[1])
    assert first[2].endswith("1,234 ")
    assert second[2].endswith("    7 ")
    assert first[3].endswith("  - ")
    assert first[4].startswith(" fine  ")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_table_fits_a_terminal_of_any_encoding(encoding):
    from rich.cells import cell_len
    from rich.console import Console as RichConsole

    console = Console()
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    console._out = RichConsole(file=terminal, force_terminal=True, width=80, color_system=None)
    console.table(("file", "p"), [("\U0001f600\xe9\u4e2d.png", "0.5"), ("b.png", "0.25")])
    terminal.flush()
    lines = terminal.buffer.getvalue().decode(encoding).splitlines()
    assert len({cell_len(line) for line in lines}) == 1  # its right border is straight
    escaped = "\U0001f600\xe9\u4e2d".encode(encoding, errors="backslashreplace").decode(encoding)
    assert f" {escaped}.png " in "".join(lines)


_BAR = """
from cvtrain.system.console import Console

with Console().task("\U0001f600") as show:
    for i in range(3):
        show(i, 3)
"""


def test_a_bar_is_drawn_in_what_the_terminal_has():
    pytest.importorskip("pty")
    inside = [sys.executable, "-c", _BAR]
    done = subprocess.run(
        [sys.executable, "-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]))", *inside],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=os.environ | {"TERM": "xterm", "PYTHONIOENCODING": "ascii:strict"},
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert rb"\U0001f600" in done.stdout
    assert b"---" in done.stdout


def test_the_log_has_every_line_with_the_time(tmp_path):
    console = Console(quiet=True)
    console.log_to(tmp_path / "log.txt")
    console.info("one\ntwo")
    console.table(("a",), [("three",)])
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line[21:] for line in lines] == ["one", "two", "three"]
    assert all(line[4] == line[7] == "-" and line[13] == line[16] == ":" for line in lines)


def test_what_was_said_before_there_was_a_log_is_in_it(tmp_path):
    console = Console(quiet=True)
    console.info("early")
    console.log_to(tmp_path / "log.txt")
    assert "early" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path, capsys):
    console = Console()
    console.log_to(tmp_path / "no" / "such" / "folder" / "log.txt")
    console.print("still here")
    assert capsys.readouterr().out == "still here\n"


@pytest.mark.parametrize(
    ("closed", "setup", "goes_on"),
    [("stderr", "", True), ("stdout", "", False), ("stdout", "c.log_to(Path('log.txt')); ", True)],
    ids=["progress", "results", "results-of-a-run"],
)
def test_a_run_goes_on_when_nobody_reads_of_it_any_more(closed, setup, goes_on, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    imports = "from pathlib import Path; from cvtrain.system.console import Console; "
    work = "[c.info(str(i)) or c.print(str(i)) for i in range(9)]; Path('done').touch()"
    command = [sys.executable, "-c", f"{imports}c = Console(); {setup}{work}"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, closed: writer}
    done = subprocess.run(command, cwd=tmp_path, **streams)
    os.close(writer)
    assert (done.returncode == 0) == goes_on
    assert (tmp_path / "done").exists() == goes_on


@pytest.mark.parametrize(
    ("closed", "setup", "code"),
    [("stderr", "", 0), ("stdout", "", 5), ("stdout", "c.log_to(Path('log.txt')); ", 0)],
    ids=["progress", "results", "results-of-a-run"],
)
def test_a_full_disk_under_what_is_printed_ends_no_run(closed, setup, code, tmp_path):
    program = f"""if True:
        import click
        from pathlib import Path
        from cvtrain import __main__ as program
        from cvtrain.system.console import Console
        def work():
            c = Console(); {setup}
            [c.info(str(i)) or c.print(str(i)) for i in range(9)]
            c.table(("a", "b"), [("1", "2")])
            Path("done").touch()
        program.cli = click.Command("work", callback=work)
        program.main()
    """
    with Path("/dev/full").open("w") as full:
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, closed: full}
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, text=True, **streams)
    assert done.returncode == code
    assert (tmp_path / "done").exists() == (code == 0)
    if code:
        message = "error: cannot write the output of this command: no space left on device\n"
        assert done.stderr.endswith(message)


def test_a_terminal_that_is_gone_ends_no_work():
    work = """
console = Console()
with console.task("working") as show:
    for i in range(200):
        console.info(str(i))
        show(i, 200)
        if i == 10:
            with contextlib.suppress(OSError):
                os.read(0, 1)  # until the terminal is gone
"""
    setup = "import contextlib, signal; from cvtrain.system.console import Console; "
    setup += "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    done = in_a_terminal_that_closes(work, setup)
    assert done.returncode == 42, done.stderr


def test_the_time_left_is_what_the_steps_so_far_took(capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    row = {"epoch": 1, "loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    with Console().training(5) as view:
        for step, now in ((1, 100.0), (10, 109.0)):
            clock[0] = now
            view.step(
                SimpleNamespace(
                    epoch=1,
                    epochs=5,
                    step=step,
                    steps_per_epoch=10,
                    metrics={"loss": 1.0, "accuracy": 0.5},
                    images_per_second=32.0,
                )
            )
        view.epoch(row | {"images_per_second": 32.0})
    # Nine steps took nine seconds, forty are left.
    assert capsys.readouterr().err == (
        "epoch 1/5  loss 1.0000  accuracy 0.500  val_loss 1.0000  val_accuracy 0.500  "
        "32 images/s  40 s left\n"
    )


SHOWN_UNTIL_STOPPED = """
import sys, time
from types import SimpleNamespace
from cvtrain.system.console import Console
from cvtrain.system.signals import stop_on_signals

now = SimpleNamespace(epoch=1, epochs=20, step=7, steps_per_epoch=100,
                      metrics={"loss": 1.2, "accuracy": 0.5}, images_per_second=3200.0)
shows = {"task": lambda bar: bar(1, 24), "training": lambda view: view.step(now)}
show = Console().task("gradcam") if sys.argv[1] == "task" else Console().training(20)
with stop_on_signals() as stop, show as bar:
    shows[sys.argv[1]](bar)
    started = time.monotonic()
    while not stop.requested and time.monotonic() < started + 20:
        time.sleep(0.01)
print("stopped" if stop.requested else "never heard of it")
"""


def screen(output, width):
    """What a terminal that is so wide shows after all this."""
    rows, x, y = [""], 0, 0
    for number, command, character in re.findall(r"\x1b\[([\d;?]*)([A-Za-z])|(.)", output, re.S):
        if command == "A":
            y = max(0, y - int(number or 1))
        elif command == "K":
            rows[y] = ""
        elif character == "\r":
            x = 0
        elif character:
            if character == "\n" or x == width:
                x, y = (x if character == "\n" else 0), y + 1
                rows += [""] * (y + 1 - len(rows))
            if character != "\n":
                rows[y] = rows[y][:x].ljust(x) + character + rows[y][x + 1 :]
                x += 1
    return [row for row in rows if row.strip()]


@pytest.mark.parametrize("width", [30, 80])
@pytest.mark.parametrize("what", ["task", "training"])
def test_nothing_stays_of_a_bar_after_ctrl_c(what, width):
    pytest.importorskip("pty")
    inside = [sys.executable, "-c", SHOWN_UNTIL_STOPPED, what]
    terminal = subprocess.Popen(
        [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])", *inside],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "COLUMNS": str(width)},
    )
    with terminal:
        output = b""
        while b"24" not in output and b"images/s" not in output:
            read = os.read(terminal.stdout.fileno(), 1000)
            assert read, output
            output += read
        terminal.stdin.write(b"\x03")
        terminal.stdin.flush()
        output += terminal.stdout.read()
    assert b"^C" in output
    assert screen(output.decode(), width) == ["stopped"]
