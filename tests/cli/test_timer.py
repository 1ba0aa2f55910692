"""The entry that runs the sweep by itself: what is written, asked for, and taken away again."""

from __future__ import annotations

import configparser
import plistlib
import sys
from pathlib import Path

import pytest

from fluxctx import timer

HOSTILE = ["/opt/my python/bin/python", "-m", "fluxctx", "--home", '/home/a b/100%/$HOME "q" \\end']


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`systemctl` and `launchctl` that note their arguments and say yes, or no where a file `no` says so."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("systemctl", "launchctl"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho "$*" >> {folder}/calls\n'
            f'if [ -f {folder}/no ] && echo "$*" | /usr/bin/grep -qf {folder}/no; then exit 1; fi\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def unquoted(line: str) -> list[str]:
    """ExecStart= as systemd.service(5) reads it, when every word is in double quotes."""
    words, word, position = [], "", 0
    inside = False
    while position < len(line):
        char, pair = line[position], line[position : position + 2]
        if inside and char == "\\":
            word, position = word + pair[1], position + 2
        elif pair in ("%%", "$$"):
            word, position = word + char, position + 2
        elif char == '"':
            if inside:
                words.append(word)
            word, inside, position = "", not inside, position + 1
        else:
            assert inside or char == " "
            assert char not in "%$", "a specifier or a variable would be expanded"
            word, position = word + char, position + 1
    return words


def test_a_systemd_timer_runs_exactly_the_command_every_hour(tools: Path, tmp_path: Path) -> None:
    assert timer.install_systemd(HOSTILE, "fluxctx-sweep-x", tmp_path).installed
    folder = tmp_path / ".config/systemd/user"
    read = configparser.RawConfigParser()
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read([folder / "fluxctx-sweep-x.service", folder / "fluxctx-sweep-x.timer"])
    assert unquoted(read["Service"]["ExecStart"]) == HOSTILE
    assert (read["Timer"]["OnCalendar"], read["Timer"]["Persistent"]) == ("hourly", "true")
    assert "--user enable --now fluxctx-sweep-x.timer" in (tools / "calls").read_text().splitlines()


def test_without_a_user_session_nothing_is_written_and_the_reason_is_given(
    tools: Path, tmp_path: Path
) -> None:
    (tools / "no").write_text("show-environment")
    state = timer.install_systemd(HOSTILE, "fluxctx-sweep-x", tmp_path)
    assert not state.installed
    assert "no systemd user session" in state.detail
    assert not (tmp_path / ".config").exists()


def test_a_timer_that_the_system_refuses_is_not_called_installed(tools: Path, tmp_path: Path) -> None:
    (tools / "no").write_text("enable")
    assert not timer.install_systemd(HOSTILE, "fluxctx-sweep-x", tmp_path).installed


def test_a_launch_agent_is_a_property_list_with_exactly_the_command(tools: Path, tmp_path: Path) -> None:
    assert timer.install_launchd([*HOSTILE, "<&>"], "fluxctx-sweep-x", tmp_path).installed
    agent = plistlib.loads((tmp_path / "Library/LaunchAgents/dev.fluxctx-sweep-x.plist").read_bytes())
    assert agent["ProgramArguments"] == [*HOSTILE, "<&>"]
    assert agent["StartInterval"] == 3600


@pytest.mark.skipif(sys.platform != "linux", reason="systemd")
def test_what_was_installed_is_seen_and_taken_away_and_homes_never_share(tools: Path, tmp_path: Path) -> None:
    homes = tmp_path / "one", tmp_path / "two"
    for home in homes:
        assert timer.install(["--home", str(home)], home, tmp_path).installed
        assert timer.state(home, tmp_path).installed
    assert len(list((tmp_path / ".config/systemd/user").iterdir())) == 4
    assert timer.remove(homes[0], tmp_path)
    assert not timer.remove(homes[0], tmp_path)
    assert len(list((tmp_path / ".config/systemd/user").iterdir())) == 2


def test_no_tool_at_all_is_a_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not timer.install([], tmp_path, tmp_path).installed
    assert not timer.state(tmp_path, tmp_path).installed
