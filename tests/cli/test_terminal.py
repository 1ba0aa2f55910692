"""What a person on a terminal meets: questions, the recovery phrase, a picture to look at.  A real pseudo-terminal."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pexpect
import pytest

from tests.running import PASSPHRASE, Home


def spawn(home: Home, *arguments: str, passphrase: bool = True) -> pexpect.spawn:
    environment = {**home.environment, "TERM": "xterm-256color", "COLUMNS": "100"}
    if not passphrase:
        environment.pop("FLUXCTX_PASSPHRASE_FILE")
    return pexpect.spawn(
        sys.executable,
        ["-m", "fluxctx", *arguments],
        env=environment,
        cwd=str(home.work),
        encoding="utf-8",
        timeout=60,
        dimensions=(50, 100),
    )


def ended(child: pexpect.spawn) -> int:
    child.expect(pexpect.EOF)
    child.close()
    return int(child.exitstatus if child.exitstatus is not None else -child.signalstatus)


def answer_recovery(child: pexpect.spawn) -> list[str]:
    child.expect("recovery phrase")
    child.expect("word 7")
    words = [
        word for _, word in sorted((int(n), w) for n, w in re.findall(r"(\d+) ([a-z]+)", child.before or ""))
    ]
    assert len(words) == 24
    child.sendline(words[6])
    child.expect("word 19")
    child.sendline(words[18])
    return words


def test_init_asks_terms_and_passphrase_and_shows_a_phrase_that_opens_the_vault(home: Home) -> None:
    child = spawn(home, "init", "--no-timer", passphrase=False)
    child.expect("accept these terms")
    child.sendline("y")
    child.expect("passphrase: ")
    child.sendline(PASSPHRASE)
    child.expect("the same again: ")
    child.sendline(PASSPHRASE)
    words = answer_recovery(child)
    assert ended(child) == 0
    slots = home.json("vault", "slots").data["slots"]
    assert [slot["kind"] for slot in slots] == ["passphrase", "recovery"]
    assert len(words) == 24


def test_a_no_to_the_terms_makes_nothing(home: Home) -> None:
    child = spawn(home, "init", "--no-timer")
    child.expect("accept these terms")
    child.sendline("n")
    assert ended(child) == 3
    assert not list(home.root.rglob("vault.json"))


def test_two_different_passphrases_make_nothing(home: Home) -> None:
    child = spawn(home, "init", "--accept-terms", "--no-timer", passphrase=False)
    child.expect("passphrase: ")
    child.sendline("one")
    child.expect("the same again: ")
    child.sendline("two")
    child.expect("differ")
    assert ended(child) == 2
    assert not list(home.root.rglob("vault.json"))


def test_a_new_passphrase_is_asked_for_twice_and_the_old_one_opens_no_more(home: Home) -> None:
    home.init()
    child = spawn(home, "vault", "passwd")
    child.expect("new passphrase: ")
    child.sendline("another one")
    child.expect("the same again: ")
    child.sendline("another one")
    assert ended(child) == 0
    assert home.json("list").code == 4
    home.passphrase_file.write_text("another one\n")
    assert home.json("list").code == 0


def test_purge_asks_and_a_no_keeps_the_item(stocked_terminal: Home) -> None:
    child = spawn(stocked_terminal, "purge", "@last")
    child.expect(r"\[y/N\]")
    child.sendline("n")
    assert ended(child) != 0
    assert len(stocked_terminal.json("list").data["items"]) == 1


def test_generate_on_a_terminal_shows_progress_and_no_escape_codes_in_a_pipe(stocked_terminal: Home) -> None:
    child = spawn(stocked_terminal, "generate", "a red apple", "--steps", "4", "--seed", "3")
    child.expect("saved")
    shown = child.before or ""
    assert ended(child) == 0
    assert "4/4" in shown or "denoise" in shown
    done = stocked_terminal.run("generate", "a red apple", "--steps", "2", "--seed", "3")
    assert b"\x1b" not in done.out
    assert "\x1b" not in done.err


@pytest.fixture
def stocked_terminal(home: Home) -> Home:
    home.init()
    assert home.json("generate", "a red apple", "--steps", "2", "--seed", "1").code == 0
    return home


def test_a_prompt_written_in_the_editor_is_on_no_disk_and_in_no_argument(home: Home) -> None:
    home.init()
    script = home.work / "editor.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "kind = subprocess.run(['stat', '-f', '-c', '%T', sys.argv[1]], capture_output=True, text=True).stdout\n"
        "mode = oct(os.stat(sys.argv[1]).st_mode & 0o777)\n"
        "open('seen', 'w').write(kind.strip() + ' ' + mode + ' ' + sys.argv[1])\n"
        "open(sys.argv[1], 'w').write('a marzipan lighthouse\\n')\n"
    )
    environment = {**home.environment, "TERM": "xterm", "EDITOR": f"{sys.executable} {script}"}
    arguments = ["-m", "fluxctx", "generate", "--edit-prompt", "--steps", "1", "--seed", "1"]
    child = pexpect.spawn(
        sys.executable, arguments, env=environment, cwd=str(home.work), encoding="utf-8", timeout=120
    )
    assert ended(child) == 0
    kind, mode, path = (home.work / "seen").read_text().split(" ")
    assert (kind, mode) == ("tmpfs", "0o600")
    assert not Path(path).exists()
    assert home.json("show", "@last").data["recipe"]["prompt"] == "a marzipan lighthouse"
    assert not [f for f in home.root.rglob("*") if f.is_file() and b"marzipan" in f.read_bytes()]
