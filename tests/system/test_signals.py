"""Ctrl-C, SIGTERM and SIGHUP ask; a second Ctrl-C insists; afterwards all is as before."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from terminals import in_a_terminal_that_closes

from cvtrain.errors import Stopped
from cvtrain.system.signals import Stop, stop_on_signals

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def handlers():
    """Puts the handlers back that a test has changed."""
    before = {number: signal.getsignal(number) for number in ASKING}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_flag_and_a_second_ctrl_c_interrupts(number, handlers):
    with stop_on_signals() as stop:
        stop.raise_if_stopped("working")
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(Stopped, match="stopped while working"):
            stop.raise_if_stopped("working")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert {number: signal.getsignal(number) for number in ASKING} == handlers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_supervisors_send_twice_is_meant_once(number):
    stop = Stop()
    for _ in range(2):
        stop(number)
    assert stop.requested


@pytest.mark.usefixtures("handlers")
def test_signals_that_are_ignored_stay_so():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_command_within_a_command_has_the_same_request():
    with stop_on_signals() as outer:
        with stop_on_signals() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        assert inner is outer
        with stop_on_signals() as later:
            assert later.requested


def test_in_another_thread_nothing_is_set():
    stops = []

    def work():
        with stop_on_signals() as stop:
            stops.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not stops[0].requested


def test_a_closed_terminal_asks_and_what_is_printed_then_does_no_harm():
    work = """
with stop_on_signals() as stop:
    print("ready", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print("what nobody reads", flush=True)
    print("nor this", file=sys.stderr, flush=True)
"""
    setup = "import time; from cvtrain.system.signals import stop_on_signals"
    done = in_a_terminal_that_closes(work, setup)
    assert done.returncode == 42, done.stderr


WAITING = """
import time
import click
from cvtrain import __main__ as program
def wait():
    print("ready", flush=True)
    time.sleep(60)
program.cli = click.Command("waiting", callback=wait)
program.main()
"""


def test_a_phase_that_does_not_look_is_interrupted_by_sigterm_as_by_ctrl_c():
    command = [sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        assert waiting.stdout.readline() == b"ready\n"
        waiting.terminate()
        _, said = waiting.communicate()
    assert waiting.returncode == 130
    assert said == b"interrupted\n"


def test_advice_is_that_of_the_innermost_block():
    stop = Stop()
    stop.requested = True

    def advice():
        with pytest.raises(Stopped, match="stopped while drawing") as caught:
            stop.raise_if_stopped("drawing")
        return caught.value.advice

    with stop.advising("Go on: cvtrain ladder runs/a --resume"):
        with stop.advising("Go on: cvtrain fit runs/a/scratch --resume"):
            assert "fit" in advice()
        assert "ladder" in advice()
    assert advice() == "Start the same command again."
