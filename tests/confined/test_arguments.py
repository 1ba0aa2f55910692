"""A prompt on the command line is gone from /proc once the program has looked."""

import subprocess
import sys
from pathlib import Path

from fluxctx.confined import arguments

SECRET = "a red apple under a secret tree"
PROGRAM = """
import sys
from fluxctx.confined.arguments import hide_arguments
print(hide_arguments(), flush=True)
sys.stdin.readline()
print(sys.argv[1])
"""


def start(program: str, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-I", "-B", "-c", program, *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_the_prompt_is_gone_from_the_process_list_and_the_program_still_has_it():
    with start(PROGRAM, SECRET) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "True\n"
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert SECRET.encode() not in shown
        assert b"red apple" not in shown
        assert shown.rstrip(b"\0") == b"fluxctx"
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.read() == SECRET + "\n"


def test_without_it_everybody_reads_the_prompt():
    with start("import sys; print(flush=True); sys.stdin.readline()", SECRET) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        assert SECRET.encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.stdin.close()


def test_where_there_is_no_proc_it_says_that_nothing_was_hidden(monkeypatch):
    monkeypatch.setattr(arguments.sys, "platform", "darwin")
    assert arguments.hide_arguments() is False
