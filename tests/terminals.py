"""A terminal that is closed while a program in it works."""

import subprocess
import sys
import textwrap

_PROGRAM = """
import os, pty, sys
{setup}
pid, terminal = pty.fork()
if pid == 0:
{work}
    os._exit(42)
os.read(terminal, 100)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def in_a_terminal_that_closes(work, setup):
    """Run `work`, whose terminal closes once it has printed; it ends with exit code 42."""
    program = _PROGRAM.format(setup=setup, work=textwrap.indent(work, "    "))
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
