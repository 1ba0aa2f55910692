"""One entry and one receipt: what may be written, what is read back, what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxctx.domain import Death, ItemId
from fluxctx.errors import LedgerDamaged, VaultDamaged
from fluxctx.ledger import canonical, entry
from fluxctx.ledger.entry import Disclosure, NewEntry
from tests.ledger.keys import NOON, AccountKeys, item_id

ORIGIN = "fluxctx/ledger/test"
SALT = bytes(range(32))
NEW = NewEntry(
    event="generated", at=NOON, clear={"item": item_id(1), "n": 1, "ok": None}, sealed={"guidance": 3.5}
)
LINE = entry.write(NEW, 0, ORIGIN, AccountKeys(), SALT)


def test_an_entry_is_read_back_as_it_was_written() -> None:
    one = entry.read(LINE, 0)
    assert (one.seq, one.event, one.clear, one.omitted) == (0, "generated", NEW.clear, ())
    assert one.line == LINE
    shown = entry.disclose(one, ORIGIN, AccountKeys())
    assert shown == Disclosure(facts={"guidance": 3.5}, salt=SALT)


def changed(**members: Any) -> bytes:
    value = canonical.parse(LINE) | members
    return canonical.render({name: part for name, part in value.items() if part != "absent"})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"7",
        b"[]",
        b"\xff",
        b"{" * 2000,
        b"[" * 100_000,
        LINE + b" ",
        LINE.replace(b'":', b'": ', 1),
        changed(extra=1),
        changed(commit="absent"),
        changed(sealed="absent"),
        changed(commit="A" * 64),
        changed(commit="a" * 63),
        changed(sealed="!"),
        changed(at="yesterday"),
        changed(at="absent"),
        changed(event="two words"),
        changed(event=1),
        changed(clear=[]),
        changed(clear={"prompt": "a red apple"}),
        changed(omitted=["two words"]),
        changed(omitted=3),
        changed(seq=True),
        changed(seq="0"),
    ],
)
def test_what_is_no_entry_is_refused(line: bytes) -> None:
    assert entry.parse(line) is None
    with pytest.raises(LedgerDamaged, match="does not parse"):
        entry.read(line, 0)


def test_an_entry_out_of_turn_is_refused() -> None:
    with pytest.raises(LedgerDamaged, match="out of turn"):
        entry.read(LINE, 1)


@pytest.mark.parametrize(
    ("origin", "seq", "keys"),
    [("fluxctx/ledger/other", 0, AccountKeys()), (ORIGIN, 1, AccountKeys()), (ORIGIN, 0, AccountKeys(2))],
)
def test_a_body_opens_in_its_place_and_under_its_key_only(origin: str, seq: int, keys: AccountKeys) -> None:
    line = changed(seq=seq)
    with pytest.raises(VaultDamaged):
        entry.disclose(entry.read(line, seq), origin, keys)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"facts":{},"salt":"!"}', b'{"facts":7,"salt":""}', b'{"facts":{},"salt":7}']
)
def test_a_body_that_is_no_body_is_damage(body: bytes) -> None:
    sealed = AccountKeys().seal(entry.context(ORIGIN, 0, "generated"), body)
    line = changed(sealed=base64.b64encode(sealed).decode())
    with pytest.raises(LedgerDamaged):
        entry.disclose(entry.read(line, 0), ORIGIN, AccountKeys())


@pytest.mark.parametrize(
    "shown",
    [
        Disclosure(facts={"guidance": 3.6}, salt=SALT),
        Disclosure(facts={"guidance": 3.5}, salt=bytes(32)),
        Disclosure(facts={"guidance": 3.5}, salt=b"short"),
    ],
)
def test_other_facts_or_another_salt_do_not_fit_the_commitment(shown: Disclosure) -> None:
    with pytest.raises(LedgerDamaged, match="committed"):
        entry.verify_disclosure(entry.read(LINE, 0), shown)


@given(st.text(max_size=40))
def test_whatever_gets_into_the_clear_part_is_one_word(text: str) -> None:
    try:
        entry.check_clear("generated", {"rule": text})
    except ValueError:
        return
    assert text.isascii()
    assert not any(letter.isspace() or letter in "\"'\\" for letter in text)


def test_equal_facts_have_different_commitments() -> None:
    assert entry.commitment({"a": 1}, SALT) != entry.commitment({"a": 1}, bytes(32))


def test_a_receipt_is_read_back_as_it_was_written() -> None:
    for death in (
        Death(id=item_id(1), at=NOON.replace(microsecond=5000), reason="expired", freed_bytes=7),
        Death(id=None, at=NOON.replace(microsecond=0), reason="damaged"),
    ):
        assert entry.read_receipt(entry.receipt(death)) == death


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b'{"at":1}', entry.receipt(Death(id=None, at=NOON, reason="x")) + b" "]
)
def test_what_is_no_receipt_is_refused(line: bytes) -> None:
    with pytest.raises(LedgerDamaged, match="receipt"):
        entry.read_receipt(line)
    with pytest.raises(LedgerDamaged, match="receipt"):
        entry.read_receipt(
            canonical.render(
                {"at": "2026-11-24T12:00:00.000Z", "freed_bytes": 1, "id": None, "reason": "a b"}
            )
        )


@pytest.mark.parametrize(("name", "value"), [("id", "a red apple"), ("reason", "a\nb")])
def test_a_receipt_holds_no_sentence(name: str, value: str) -> None:
    facts: dict[str, Any] = {"id": item_id(1), "at": NOON, "reason": "expired"}
    with pytest.raises(ValueError):
        entry.receipt(Death(**facts | {name: ItemId(value)}))
