"""`open`, `trust`, `discover` and `completion`, as a person and as a program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.cli.test_items import png
from tests.running import Home


@pytest.fixture
def one(home: Home) -> Home:
    home.init()
    assert home.run("import", str(png(home.work / "in.png", side=300))).code == 0
    return home


def viewer(home: Home) -> str:
    """A program that notes what it was given: the path, the file system, the mode, the first bytes."""
    script = home.work / "viewer.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "path = sys.argv[1]\n"
        "kind = subprocess.run(['stat', '-f', '-c', '%T', path], capture_output=True, text=True).stdout.strip()\n"
        "start = open(path, 'rb').read(8).hex()\n"
        "open('seen', 'w').write('\\n'.join([path, kind, oct(os.stat(path).st_mode & 0o777), start]))\n"
    )
    return f"{sys.executable} {script}"


def test_open_gives_the_viewer_a_private_file_in_memory_and_removes_it(one: Home) -> None:
    item = one.json("list").data["items"][0]["id"]
    assert one.json("open", item, "--viewer", viewer(one)).data["id"] == item
    path, kind, mode, start = (one.work / "seen").read_text().splitlines()
    assert (kind, mode, start) == ("tmpfs", "0o600", "89504e470d0a1a0a")
    assert not Path(path).exists()
    assert item not in path


def test_open_without_a_viewer_says_what_to_do(one: Home) -> None:
    item = one.json("list").data["items"][0]["id"]
    done = one.json("open", item, env={"PATH": str(one.work)})
    assert done.code == 2
    assert "--viewer" in done.envelope["error"]["hint"]


def test_trust_is_amber_on_deletion_without_a_timer_and_names_what_is_not_kept(one: Home) -> None:
    done = one.json("trust")
    promises = {row["id"]: row for row in done.envelope["data"]["promises"]}
    assert len(promises) == 13
    assert (promises["P4"]["state"], promises["P4"]["kept"]) == ("amber", False)
    assert all(row["evidence"] and row["repeat"] and row["mechanism"] for row in promises.values())
    broken = [name for name, row in promises.items() if row["state"] == "not kept"]
    assert done.code == (9 if broken else 0)
    assert all(name in done.envelope["error"]["message"] for name in broken)


def test_the_network_promises_alone_are_kept(one: Home) -> None:
    promises = one.json("trust", "--network").data["promises"]
    assert [(row["id"], row["state"]) for row in promises] == [("P1", "kept"), ("P3", "kept")]


def test_an_error_told_to_a_reader_that_has_gone_ends_quietly(one: Home) -> None:
    command = f"{sys.executable} -m fluxctx trust --json | true; echo ${{PIPESTATUS[0]}} >&2"
    done = subprocess.run(
        ["bash", "-c", command], env=one.environment, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines() == ["141"]


def test_every_schema_that_discover_gives_is_a_schema_and_describes_its_envelope(home: Home) -> None:
    done = home.json("discover")
    schemas = done.data["schemas"]
    for schema in schemas.values():
        jsonschema.validators.validator_for(schema).check_schema(schema)
    (envelope,) = [schema for name, schema in schemas.items() if name.startswith("envelope")]
    jsonschema.validate(done.envelope, envelope)
    jsonschema.validate(home.json("show", "@last").envelope, envelope)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_each_shell_gets_a_completion_script(home: Home, shell: str) -> None:
    done = home.run("completion", shell)
    assert done.code == 0
    assert "_FLUXCTX_COMPLETE" in done.text or "_fluxctx_complete" in done.text.lower()


@pytest.mark.skipif(not shutil.which("bash"), reason="not run: bash is missing")
def test_bash_completes_commands_and_flags(home: Home) -> None:
    words = home.environment | {"_FLUXCTX_COMPLETE": "complete_bash"}

    def complete(*line: str) -> list[str]:
        typed = words | {"COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)}
        done = subprocess.run(
            [sys.executable, "-m", "fluxctx"], env=typed, capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    assert complete("fluxctx", "gen") == ["generate"]
    assert "--expiring" in complete("fluxctx", "list", "--exp")
