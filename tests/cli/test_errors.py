"""Bad input: a clear error, a hint, the right code, and nothing lost."""

from __future__ import annotations

import json

import jsonschema
import pytest

from fluxctx.commands.discover import schemas
from tests.running import Home

LONG = "x" * 100_000


@pytest.mark.parametrize(
    ("arguments", "code", "slug"),
    [
        (["generate", ""], 2, "invalid_request"),
        (["generate", "   \n "], 2, "invalid_request"),
        (["generate", "bell \x07 here"], 2, "invalid_request"),
        (["generate", "x", "--seed", "-1"], 2, "invalid_request"),
        (["generate", "x", "--count", "0"], 2, "invalid_request"),
        (["generate", "x", "--size", "huge"], 2, "invalid_request"),
        (["generate", "x", "--size", "0x0"], 2, "invalid_request"),
        (["generate", "x", "--retain", "soon"], 2, "invalid_request"),
        (["generate", "x", "--mask", "m.png"], 2, "invalid_request"),
        (["generate", "x", "--strength", "0.5"], 2, "invalid_request"),
        (["generate", "x", "--metadata", "some"], 2, "invalid_request"),
        (["generate", "x", "-o", "nowhere/apple.png"], 2, "usage"),
        (["generate", "x", "-o", "apple.gif"], 2, "invalid_request"),
        (["generate", "x", "--tag", "=v"], 2, "invalid_request"),
        (["generate", "x", "--nonsense"], 2, "usage"),
        (["generate", "a", "red", "apple"], 2, "usage"),
        (["generate"], 2, "no_terminal"),
        (["frobnicate"], 2, "usage"),
        (["list", "--limit", "many"], 2, "usage"),
        (["list"], 5, "account_not_found"),
        (["show", "@last"], 5, "account_not_found"),
        (["purge"], 2, "usage"),
        (["export"], 2, "usage"),
        (["models", "show", "nope"], 5, "model_not_found"),
        (["completion", "csh"], 2, "invalid_request"),
    ],
)
def test_a_bad_command_says_what_is_wrong_and_what_to_do(
    home: Home, arguments: list[str], code: int, slug: str
) -> None:
    done = home.json(*arguments)
    assert done.code == code, done.text + done.err
    assert done.envelope["error"]["code"] == slug
    assert done.envelope["error"]["hint"]
    jsonschema.validate(done.envelope, schemas()["envelope"])
    assert not home.root.exists(), "a refused command leaves no trace"


def test_a_prompt_of_100_kilobytes_is_refused_before_anything_is_opened(home: Home) -> None:
    done = home.json("generate", "-", stdin=LONG.encode())
    assert (done.code, done.envelope["error"]["code"]) == (2, "invalid_request")


def test_the_words_of_a_prompt_stand_in_no_error(home: Home) -> None:
    for arguments in (
        ["generate", "zanzibar", "walrus"],
        ["generate", "zanzibar", "--model", "none"],
        ["generate", "zanzibar", "--size", "3x3"],
        ["generate", "zanzibar \x07"],
        ["generate", "zanzibar", "--bogus"],
    ):
        done = home.run(*arguments)
        assert done.code != 0
        assert "zanzibar" not in done.text + done.err


def test_an_error_for_a_person_is_two_lines_on_stderr(home: Home) -> None:
    done = home.run("generate", "")
    assert done.out == b""
    assert done.err.splitlines()[0] == "error: the prompt is empty"
    assert done.err.splitlines()[2].startswith("hint: ")


def test_no_passphrase_in_a_pipe_is_an_error_and_never_a_question(home: Home) -> None:
    home.init()
    done = home.json("list", env={"FLUXCTX_PASSPHRASE_FILE": None})
    assert (done.code, done.envelope["error"]["code"]) == (4, "vault_locked")


def test_a_wrong_passphrase_exits_4_and_changes_nothing(home: Home) -> None:
    home.init()
    assert home.json("list").code == 0
    before = {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}
    done = home.json("list", env={"FLUXCTX_PASSPHRASE_FILE": None, "FLUXCTX_PASSPHRASE": "wrong"})
    assert (done.code, done.envelope["error"]["code"]) == (4, "wrong_passphrase")
    assert "wrong" not in json.dumps(done.envelope["error"]["details"])
    assert {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()} == before


def test_the_terms_must_be_accepted_before_the_first_account(home: Home) -> None:
    done = home.json("init", "--no-timer")
    assert (done.code, done.envelope["error"]["code"]) == (3, "terms_not_accepted")


def test_a_second_first_account_is_refused(home: Home) -> None:
    home.init()
    done = home.json("init", "--accept-terms", "--no-timer")
    assert (done.code, done.envelope["error"]["code"]) == (2, "invalid_request")


def test_a_home_of_a_newer_version_is_left_untouched(home: Home) -> None:
    home.init()
    (header,) = home.root.glob("data/vaults/*/vault.json")
    newer = header.read_text().replace("fluxctx.vault/1", "fluxctx.vault/2")
    header.write_text(newer)
    done = home.json("list")
    assert (done.code, done.envelope["error"]["code"]) == (9, "vault_newer")
    assert header.read_text() == newer


def test_a_lost_machine_key_is_an_integrity_error(home: Home) -> None:
    home.init()
    (home.root / "config" / "machine.key").unlink()
    done = home.json("list")
    assert (done.code, done.envelope["error"]["code"]) == (9, "registry_damaged")


def test_an_unreadable_project_file_is_named_and_weakens_nothing(home: Home) -> None:
    (home.work / "fluxctx.toml").write_text("polcy = 'local'\n")
    done = home.json("config", "show")
    assert (done.code, done.envelope["error"]["code"]) == (2, "usage")
    assert "polcy" in done.envelope["error"]["message"]
