"""What comes back from a process, however it ends."""

import pytest

from cvtrain.system.json_subprocess import run_json_subprocess


@pytest.fixture
def module(tmp_path, monkeypatch):
    """module(code) -> the name of a module of that code."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(code):
        (tmp_path / "child_process.py").write_text(code)
        return "child_process"

    return write


def test_objects_are_merged_and_arguments_arrive(module):
    name = module('import sys; print(\'{"a": 1, "b": 1}\'); print(\'{"b": "%s"}\' % sys.argv[1])')
    assert run_json_subprocess(name, "x y", seconds=60) == ({"a": 1, "b": "x y"}, "")


def test_chatter_of_an_engine_is_passed_over(module):
    name = module("print('loading'); print('{not json}'); print('[1]'); print('{\"a\": 1}')")
    assert run_json_subprocess(name, seconds=60) == ({"a": 1}, "")


def test_what_was_said_before_an_error_is_kept(module):
    name = module("print('{\"a\": 1}', flush=True); raise ImportError('no\\x1b[31m engine')")
    assert run_json_subprocess(name, seconds=60) == ({"a": 1}, "ImportError: no\\x1b[31m engine")


def test_what_was_said_before_time_was_up_is_kept(module):
    name = module("import time; print('{\"a\": 1}', flush=True); time.sleep(600)")
    assert run_json_subprocess(name, seconds=3) == ({"a": 1}, "it took more than 3 s")


def test_a_crash_is_survived(module):
    name = module("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert run_json_subprocess(name, seconds=60) == ({}, "it was ended by SIGILL")


def test_an_exit_without_a_word_has_its_code(module):
    assert run_json_subprocess(module("raise SystemExit(3)"), seconds=60) == (
        {},
        "it ended with code 3",
    )


def test_modules_of_the_current_folder_do_not_get_in_the_way(module, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    (here / "json.py").write_text("raise SystemExit('mine')")
    monkeypatch.chdir(here)
    assert run_json_subprocess(module("import json; print(json.dumps({'a': 1}))"), seconds=60)[
        0
    ] == {"a": 1}
