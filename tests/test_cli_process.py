"""The command line as a process: start-up, signals, pipes, terminals."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import pytest

MAIN = (sys.executable, "-c", "from patternc.cli import main; main()")
LOCAL = "pattern local(window: tokens = 4) = { q -> k : 0 <= q - k < window }\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.spat"
    path.write_text(LOCAL)
    return path


@pytest.mark.parametrize(
    "args",
    [["check"], ["fmt", "--check"], ["explain", "-n", "512"], ["show", "-n", "64"], ["show", "-n", "4096"], ["list"]],
)
def test_commands_that_do_not_need_torch_do_not_import_it(path, args):
    code = (
        "import sys\nfrom patternc.cli import commands\n"
        "commands.main(sys.argv[1:], standalone_mode=False)\n"
        "assert not {'torch', 'triton', 'matplotlib'} & set(sys.modules), 'imported'"
    )
    command, *options = args
    done = subprocess.run([sys.executable, "-c", code, command, str(path), *options], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


def test_a_reader_that_leaves_ends_it_quietly():
    running = subprocess.Popen([*MAIN, "explain", "SPAT001"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.close()
    _, errors = running.communicate(timeout=60)
    assert b"Traceback" not in errors
    assert b"error" not in errors


def test_interrupts_exit_with_130():
    running = subprocess.Popen(
        [*MAIN, "check", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(1.5)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in errors


def test_terminals_without_unicode_get_question_marks(path):
    command, env = [*MAIN, "show", str(path), "-n", "16"], os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    assert b"?" in done.stdout


def test_defects_end_in_one_line():
    code = "import sys, patternc.cli as c\nc.commands.callback = None\nc.commands.main = lambda **_: 1 / 0\nc.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(b"internal error at ")
    assert done.stderr.count(b"\n") == 1


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    from patternc.cli import terminal

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert terminal.colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.colour()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.colour()
