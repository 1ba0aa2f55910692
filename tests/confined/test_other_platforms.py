"""macOS and Windows, as far as Linux can try them: the profile's text, and the pipes without a floor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fluxctx.confined import seatbelt, windows
from fluxctx.confined import spawn as spawning
from fluxctx.confined.grants import Grants
from fluxctx.confined.probe import run_probe
from fluxctx.confined.spawn import spawn
from fluxctx.errors import ConfinementUnavailable

KIDS = Path(__file__).parent / "kids"


# --- macOS --------------------------------------------------------------------------------------------


def test_the_profile_denies_by_default_and_mentions_no_network_and_no_writing():
    text = seatbelt.profile(["/models/flux"])
    assert text.startswith("(version 1)\n(deny default)\n")
    assert "network" not in text
    assert "file-write" not in text
    assert '(allow file-read* (subpath "/models/flux"))' in text
    assert text.count("(") == text.count(")")


@pytest.mark.parametrize(
    ("path", "quoted"),
    [("/a b", '"/a b"'), ('/a"b', '"/a\\"b"'), ("/a\\b", '"/a\\\\b"'), ('/x")(allow default)("', None)],
)
def test_a_path_cannot_leave_its_string_in_the_profile(path, quoted):
    text = seatbelt.quote(path)
    assert quoted in (None, text)
    inner = text[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inner


def test_on_macos_the_child_starts_under_sandbox_exec(monkeypatch):
    monkeypatch.setattr(spawning.sys, "platform", "darwin")
    words = spawning.child_command("fluxctx.engine.worker", "5", Grants(read=("/models",)))
    assert words[0] == "/usr/bin/sandbox-exec"
    assert words[1:4] == ["-D", f"PYTHON={sys.executable}", "-p"]
    assert words[5:] == [
        sys.executable,
        "-I",
        "-B",
        "-m",
        "fluxctx.confined.child",
        "fluxctx.engine.worker",
        "5",
    ]


def test_a_process_without_sandbox_exec_is_not_taken_for_a_confined_one():
    assert seatbelt.holds() is False


# --- Windows ------------------------------------------------------------------------------------------


@pytest.fixture
def on_windows(monkeypatch):
    """Both sides believe that they are on Windows; the operating system calls stay Linux's."""
    monkeypatch.setattr(spawning.sys, "platform", "win32")

    def command(module, fd, grants):
        code = (
            f"import sys; sys.platform = 'win32'; sys.path.insert(0, {str(KIDS)!r});"
            f"sys.argv = ['kid', {module!r}, {fd!r}]; from fluxctx.confined import child; child.run()"
        )
        return [sys.executable, "-I", "-B", "-c", code]

    monkeypatch.setattr(spawning, "child_command", command)


def test_without_the_administrators_setting_nothing_starts_on_windows(on_windows):
    with pytest.raises(ConfinementUnavailable) as caught:
        spawn("kid_idle", grants=Grants())
    assert "administrator" in caught.value.message


def test_with_it_the_child_works_over_pipes_and_says_that_nothing_is_enforced(on_windows):
    with spawn("kid_idle", grants=Grants(), windows_administrator_accepts=True) as child:
        layers = child.ready()
        assert layers.platform == "win32"
        assert not layers.enforced
        blob = os.urandom(1 << 20)
        child.channel.send("echo", {"n": 1}, blob)
        assert child.channel.recv() == ("echo", {"n": 1}, blob)
    assert child.poll() is not None


def test_what_the_child_prints_does_not_get_into_its_pipes(on_windows):
    with spawn("kid_print", grants=Grants(), windows_administrator_accepts=True) as child:
        child.ready()
        child.channel.send("go", {"out": "printed", "err": "and this"})
        assert child.channel.recv().kind == "printed"
        assert child.wait(10) == 0
        assert "printed" in child.stderr_tail()
        assert "and this" in child.stderr_tail()


def test_the_child_leaves_when_its_pipe_closes(on_windows):
    with spawn("kid_idle", grants=Grants(), windows_administrator_accepts=True) as child:
        child.ready()
        child.channel.close()
        assert child.wait(10) == 0


def test_there_is_nothing_to_probe_where_nothing_is_enforced(on_windows):
    with pytest.raises(ConfinementUnavailable):
        run_probe()


def test_the_pipes_alone_do_not_lift_the_floor_on_linux():
    """`stdio` in place of a descriptor means nothing here: the child ends before it imports anything."""
    words = [sys.executable, "-I", "-B", "-m", "fluxctx.confined.child", "fluxctx.confined.attempts", "stdio"]
    done = subprocess.run(words, input=b"", capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == b""


def test_only_windows_needs_the_systems_own_directory():
    assert windows.system_root() == {}
