"""The sealed registry: accounts come by invitation, change under a lock, and leave."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fluxctx.accounts import changes, registry, shape
from fluxctx.accounts.flags import Flag
from fluxctx.accounts.record import TokenNote
from fluxctx.accounts.registry import CONTEXT, Registry
from fluxctx.domain import Workflow
from fluxctx.errors import (
    AccountNotFound,
    Busy,
    DiskFull,
    HomeReadOnly,
    InvalidRequest,
    NotAuthorised,
    NotFound,
    PlanForbids,
    RegistryDamaged,
    StorageFailed,
)
from tests.accounts.people import DAY, NOON, TERMS, Machine, account_id, strike, vault_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "accounts.sealed"


@pytest.fixture
def accounts(path: Path) -> Registry:
    """Ada, the operator."""
    opened = Registry(path, Machine(), sync=lambda _: None)
    opened.create("ada", account_id(1), vault_id(1), now=NOON)
    return opened


@pytest.fixture
def both(accounts: Registry) -> Registry:
    """Ada and, by her invitation, Bob on the free plan."""
    accounts.invite("free", "code", now=NOON, until=NOON + DAY)
    accounts.create("bob", account_id(2), vault_id(2), now=NOON, invitation="code")
    return accounts


# --- coming ------------------------------------------------------------------------------------------


def test_a_machine_without_a_registry_has_no_accounts(path: Path) -> None:
    fresh = Registry(path, Machine())
    assert fresh.accounts(NOON) == []
    with pytest.raises(AccountNotFound):
        fresh.find("ada")
    with pytest.raises(AccountNotFound):
        fresh.record(account_id(1))
    assert not path.parent.exists()


def test_the_first_account_is_the_operator_on_plan_ultra(accounts: Registry) -> None:
    (ada,) = accounts.accounts(NOON)
    assert (ada.name, ada.role, ada.plan, ada.status) == ("ada", "operator", "ultra", "active")
    assert accounts.record(account_id(1)) == accounts.find("ada")


def test_each_further_account_needs_an_invitation_and_gets_its_plan(both: Registry) -> None:
    bob = both.find("bob").account
    assert (bob.role, bob.plan) == ("user", "free")
    assert both.record(account_id(2)).account == bob


@pytest.mark.parametrize("code", [None, "another", ""])
def test_without_a_valid_code_there_is_no_second_account(accounts: Registry, code: str | None) -> None:
    accounts.invite("free", "code", now=NOON, until=NOON + DAY)
    with pytest.raises(NotAuthorised, match="invitation"):
        accounts.create("bob", account_id(2), vault_id(2), now=NOON, invitation=code)


def test_an_invitation_works_once(both: Registry) -> None:
    with pytest.raises(NotAuthorised):
        both.create("eve", account_id(3), vault_id(3), now=NOON, invitation="code")


def test_an_invitation_ends(accounts: Registry) -> None:
    accounts.invite("pro", "code", now=NOON, until=NOON + DAY)
    assert [one.plan for one in accounts.invitations(NOON)] == ["pro"]
    assert accounts.invitations(NOON + DAY) == []
    with pytest.raises(NotAuthorised):
        accounts.create("bob", account_id(2), vault_id(2), now=NOON + DAY, invitation="code")
    accounts.invite("free", "next", now=NOON + DAY, until=NOON + 2 * DAY)
    assert len(accounts.read().invitations) == 1


def test_an_invitation_ends_after_it_begins_and_names_a_plan(accounts: Registry) -> None:
    with pytest.raises(InvalidRequest):
        accounts.invite("free", "code", now=NOON, until=NOON)
    with pytest.raises(InvalidRequest, match="no such plan"):
        accounts.invite("gold", "code", now=NOON, until=NOON + DAY)


def test_a_code_is_read_out_in_groups_and_typed_in_any_way() -> None:
    code = changes.new_code(lambda count: bytes(range(count)))
    assert [len(group) for group in code.split("-")] == [7, 7, 7, 5]
    assert changes.code_hash(code) == changes.code_hash(code.upper().replace("-", "  "))
    assert changes.code_hash(code) != changes.code_hash(code[:-1])
    assert changes.new_code(os.urandom) != changes.new_code(os.urandom)


def test_a_failed_creation_leaves_the_invitation_alone(accounts: Registry) -> None:
    accounts.invite("free", "code", now=NOON, until=NOON + DAY)
    with pytest.raises(InvalidRequest):
        accounts.create("ada", account_id(2), vault_id(2), now=NOON, invitation="code")
    accounts.create("bob", account_id(2), vault_id(2), now=NOON, invitation="code")


@pytest.mark.parametrize("name", ["", " ada", "ada ", "a\nb", "a\x00", "\u202eada", "x" * 65, "\u2028"])
def test_names_that_would_mislead_are_refused(accounts: Registry, name: str) -> None:
    with pytest.raises(InvalidRequest, match="not a name"):
        accounts.create(name, account_id(2), vault_id(2), now=NOON, invitation="code")


def test_a_name_is_the_same_however_its_accents_are_typed(path: Path) -> None:
    fresh = Registry(path, Machine())
    fresh.create("Zoe\u0308", account_id(1), vault_id(1), now=NOON)
    assert fresh.find("Zo\u00eb").account.name == "Zo\u00eb"


# --- changing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.set_plan("eve", "pro"),
        lambda one: one.grant("eve", "dpa"),
        lambda one: one.delete("eve", now=NOON),
        lambda one: one.record_terms("eve", TERMS, now=NOON),
    ],
)
def test_an_unknown_account_is_said_to_be_unknown(
    both: Registry, change: Callable[[Registry], object]
) -> None:
    with pytest.raises(AccountNotFound):
        change(both)


def test_plans_grants_and_removals_are_kept(both: Registry) -> None:
    both.set_plan("bob", "pro")
    both.grant("bob", "model:flux-dev")
    both.grant("bob", "max_steps:80")
    both.grant("bob", "max_steps:90")
    bob = both.find("bob")
    assert bob.account.plan == "pro"
    assert [str(one) for one in bob.grants] == ["model:flux-dev", "max_steps:90"]
    both.revoke("bob", "model:flux-dev")
    bob = both.find("bob")
    assert [str(one) for one in bob.grants] == ["max_steps:90"]
    assert [str(one) for one in bob.removals] == ["model:flux-dev"]
    both.grant("bob", "model:flux-dev")
    assert both.find("bob").removals == ()
    assert both.find("ada").grants == ()
    for bad in ("gold", ""):
        with pytest.raises(InvalidRequest):
            both.set_plan("bob", bad)
    with pytest.raises(InvalidRequest):
        both.grant("bob", "everything")


def test_restriction_suspension_and_reinstatement_are_seen_at_once(both: Registry) -> None:
    both.restrict("bob", "late payment", now=NOON, until=NOON + DAY, workflows=(Workflow.EDIT,))
    assert [one.status for one in both.accounts(NOON)] == ["active", "restricted"]
    both.suspend("bob", "abuse", now=NOON)
    assert both.accounts(NOON)[1].status_reason == "abuse"
    both.record_strike("bob", strike(category="minors_sexual", source="confirmed"))
    both.reinstate("bob", now=NOON)
    assert both.accounts(NOON)[1].status == "active"
    both.reinstate("bob", now=NOON + DAY)
    assert both.find("bob").strikes[0].reversed_at == NOON


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "x" * 301])
def test_a_measure_has_a_reason_of_one_line(both: Registry, reason: str) -> None:
    with pytest.raises(InvalidRequest, match="one line"):
        both.suspend("bob", reason, now=NOON)
    with pytest.raises(InvalidRequest, match="one line"):
        both.restrict("bob", reason, now=NOON)


def test_flags_stand_until_they_are_lifted(both: Registry) -> None:
    both.flag("bob", Flag.FRAUD)
    both.flag("bob", Flag.LEGAL_HOLD)
    both.flag("bob", Flag.FRAUD)
    assert set(both.find("bob").flags) == {Flag.FRAUD, Flag.LEGAL_HOLD}
    both.flag("bob", Flag.FRAUD, stands=False)
    assert both.find("bob").flags == (Flag.LEGAL_HOLD,)


def test_accepting_the_same_terms_twice_is_once(both: Registry) -> None:
    both.record_terms("bob", TERMS, now=NOON)
    both.record_terms("bob", TERMS, now=NOON + DAY)
    assert [one.at for one in both.find("bob").acceptances] == [NOON]


def test_a_strike_says_whether_it_counted_and_can_be_reversed(both: Registry) -> None:
    assert both.record_strike("bob", strike())[1] is True
    assert both.record_strike("bob", strike(1, digest=strike().digest))[1] is False
    assert len(both.find("bob").strikes) == 1
    both.reverse_strike("bob", strike().id, now=NOON)
    assert both.find("bob").strikes[0].reversed_at == NOON
    with pytest.raises(NotFound, match="no strike"):
        both.reverse_strike("bob", "f" * 32, now=NOON)


def test_tokens_are_noted_by_name_up_to_the_plans_number(both: Registry) -> None:
    first = TokenNote(name="ci", digest="a" * 64, created_at=NOON, expires_at=NOON + DAY)
    both.note_token("bob", first, most=1, now=NOON)
    with pytest.raises(InvalidRequest, match="already there"):
        both.note_token("bob", first, most=2, now=NOON)
    second = TokenNote(name="cd", digest="b" * 64, created_at=NOON, expires_at=None)
    with pytest.raises(PlanForbids, match="1 API tokens"):
        both.note_token("bob", second, most=1, now=NOON)
    both.note_token("bob", second, most=1, now=NOON + DAY)
    assert [one.name for one in both.find("bob").tokens] == ["cd"]
    both.forget_token("bob", "cd")
    with pytest.raises(NotFound, match="no token"):
        both.forget_token("bob", "cd")


# --- leaving -----------------------------------------------------------------------------------------


def test_a_deleted_account_is_gone_without_a_trace(both: Registry) -> None:
    assert both.delete("bob", now=NOON) is None
    assert [one.name for one in both.accounts(NOON)] == ["ada"]
    assert both.read().kept == ()


@pytest.mark.parametrize("flag", list(Flag))
def test_a_hold_keeps_the_record_of_a_deleted_account(both: Registry, flag: Flag) -> None:
    both.flag("bob", flag)
    kept = both.delete("bob", now=NOON)
    assert kept is not None
    assert both.read().kept == (kept,)
    assert [one.name for one in both.accounts(NOON)] == ["ada"]


def test_the_last_operator_names_who_comes_next(both: Registry) -> None:
    with pytest.raises(InvalidRequest, match="last operator"):
        both.delete("ada", now=NOON)
    with pytest.raises(AccountNotFound):
        both.delete("ada", now=NOON, successor="ada")
    both.delete("ada", now=NOON, successor="bob")
    assert [(one.name, one.role, one.plan) for one in both.accounts(NOON)] == [("bob", "operator", "free")]


def test_the_only_account_may_go_and_the_next_one_is_the_first_again(accounts: Registry) -> None:
    accounts.delete("ada", now=NOON)
    assert accounts.create("eve", account_id(3), vault_id(3), now=NOON).role == "operator"


# --- the file ----------------------------------------------------------------------------------------


def test_nothing_in_the_file_can_be_read_without_the_machine_key(both: Registry, path: Path) -> None:
    raw = path.read_bytes()
    for word in (b"ada", b"bob", b"operator", account_id(1).encode()):
        assert word not in raw
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in path.parent.iterdir()) == ["accounts.sealed", "accounts.sealed.lock"]


def test_an_invitations_code_is_not_in_the_registry(accounts: Registry) -> None:
    accounts.invite("free", "gx7-very-secret", now=NOON, until=NOON + DAY)
    assert b"very" not in shape.render(accounts.read())


@pytest.mark.parametrize("position", [0, 5, 13, -1])
def test_one_changed_byte_is_damage(both: Registry, path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)
    with pytest.raises(RegistryDamaged):
        both.accounts(NOON)
    with pytest.raises(RegistryDamaged):
        both.set_plan("bob", "pro")
    assert path.read_bytes() == raw


def test_another_machines_key_opens_nothing(both: Registry, path: Path) -> None:
    with pytest.raises(RegistryDamaged, match="this machine's key"):
        Registry(path, Machine(b"x" * 32)).accounts(NOON)


@pytest.mark.parametrize("raw", [b"", b"x" * 11, b"x" * 40])
def test_a_cut_file_is_damage(both: Registry, path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    with pytest.raises(RegistryDamaged):
        both.read()


def whole(registry_: Registry) -> dict[str, Any]:
    registry_.note_token(
        "bob", TokenNote(name="ci", digest="a", created_at=NOON, expires_at=None), most=9, now=NOON
    )
    registry_.restrict("bob", "x", now=NOON, until=NOON + DAY, workflows=(Workflow.EDIT,))
    registry_.record_strike("bob", strike(reversed_at=NOON))
    registry_.record_terms("bob", TERMS, now=NOON)
    registry_.flag("bob", Flag.FRAUD)
    registry_.grant("bob", "dpa")
    registry_.invite("pro", "again", now=NOON, until=NOON + DAY)
    return json.loads(shape.render(registry_.read()))


def test_everything_comes_back_as_it_was_written(both: Registry) -> None:
    raw = json.dumps(whole(both), sort_keys=True, separators=(",", ":")).encode()
    assert shape.render(shape.parse(raw)) == raw


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (["schema"], "fluxctx.accounts/2"),
        (["revision"], "1"),
        (["surplus"], 1),
        (["accounts", 1, "plan"], "gold"),
        (["accounts", 1, "role"], "root"),
        (["accounts", 1, "created_at"], "2026-11-24T12:00:00"),
        (["accounts", 1, "flags"], ["sad"]),
        (["accounts", 1, "grants"], ["everything"]),
        (["accounts", 1, "measure", "level"], "gone"),
        (["accounts", 1, "strikes", 0, "source"], "classifier"),
        (["accounts", 1, "surplus"], 1),
        (["invitations", 0, "plan"], "gold"),
        (["accounts"], 7),
        (["accounts"], ["x"]),
    ],
)
def test_what_is_sealed_but_not_understood_is_damage(
    both: Registry, path: Path, where: list[Any], value: object
) -> None:
    content = whole(both)
    target: Any = content
    for step in where[:-1]:
        target = target[step]
    target[where[-1]] = value
    raw = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(Machine().seal(CONTEXT, raw))
    with pytest.raises(RegistryDamaged):
        both.read()


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, DiskFull), (errno.EROFS, HomeReadOnly), (errno.EIO, StorageFailed)],
)
def test_a_write_that_fails_changes_nothing_and_names_no_path(
    both: Registry, path: Path, number: int, error: type[Exception]
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, "refused", str(path))

    before = path.read_bytes()
    with pytest.raises(error) as caught:
        Registry(path, Machine(), sync=fail).set_plan("bob", "pro")
    assert "data" not in str(caught.value)
    assert path.read_bytes() == before
    assert both.find("bob").account.plan == "free"


def test_a_registry_that_is_no_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        Registry(tmp_path, Machine()).read()


def test_a_lock_that_never_comes_is_busy(both: Registry, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOCK_WAIT_S", 0.01)
    with both._changing(), pytest.raises(Busy):
        Registry(path, Machine()).set_plan("bob", "pro")


def test_strikes_that_race_are_all_there(both: Registry, path: Path) -> None:
    def strike_often(worker: int) -> int:
        opened = Registry(path, Machine(), sync=lambda _: None)  # its own descriptors: as good as a process
        return sum(opened.record_strike("bob", strike(worker * 100 + n))[1] for n in range(10))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(strike_often, range(4))) == [10] * 4
    assert len(both.find("bob").strikes) == 40


def test_a_retry_that_races_counts_once(both: Registry, path: Path) -> None:
    second = Registry(path, Machine(), sync=lambda _: None)
    counted = [
        opened.record_strike("bob", strike(number, digest="d" * 64, at=NOON + timedelta(seconds=number)))[1]
        for number, opened in enumerate([both, second] * 3)
    ]
    assert sum(counted) == 1
