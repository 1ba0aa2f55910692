"""What a ledger promises to the flow: every entry stays, in order, and can be proved."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fluxctx.domain import Death
from fluxctx.errors import LedgerDamaged, NotFound, VaultLocked, VaultNewer
from fluxctx.ledger import note, tree
from fluxctx.ledger.entry import NewEntry, verify_disclosure
from fluxctx.ledger.store import Ledger, open_ledger
from tests.ledger.keys import LEDGER_ID, NOON, AccountKeys, deaths, item_id, verify

Open = Callable[[], Ledger]


def test_entries_come_back_in_order_with_their_facts_sealed(filled: Ledger) -> None:
    entries = filled.entries(limit=50)
    assert [one.seq for one in entries] == list(range(20))
    assert entries[3].clear == {"item": item_id(3), "job": "job_00000000deadbeef"}
    assert b"output_sha256" not in entries[3].line
    shown = filled.disclose(3)
    assert shown is not None
    assert shown.facts == {"output_sha256": f"{3:064x}", "guidance": 3.5}
    verify_disclosure(entries[3], shown)


def test_pages_end_where_the_ledger_ends(filled: Ledger) -> None:
    assert [one.seq for one in filled.entries(after=17, limit=5)] == [18, 19]
    assert filled.entries(after=19) == []
    assert filled.entries(after=400) == []
    assert [one.seq for one in filled.entries(after=-9, limit=2)] == [0, 1]


def test_a_ledger_is_private_from_the_first_byte(filled: Ledger, home: Path) -> None:
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()} == {0o600}


def test_a_new_ledger_is_empty_and_verifies(unlocked: Open) -> None:
    ledger = unlocked()
    head = ledger.head()
    assert (head.size, head.root, head.signed_size, head.checkpoint) == (0, tree.EMPTY_ROOT, 0, None)
    assert ledger.entries() == []
    assert list(ledger.export_lines()) == []
    ledger.verify()


def test_an_empty_ledger_can_be_signed_as_such(unlocked: Open) -> None:
    ledger = unlocked()
    signed = ledger.checkpoint()
    assert signed.split("\n")[1] == "0"
    ledger.append("generated", at=NOON, clear={}, sealed={})
    ledger.verify(signed)
    assert ledger.consistency_proof(0, 1) == []


def test_every_entry_is_proved_to_somebody_who_has_only_the_public_key(filled: Ledger) -> None:
    keys = list(filled.head().keys)
    for one in filled.entries(limit=50):
        text = str(filled.inclusion_proof(one.seq))
        note.verify_proof(one.line, note.parse_proof(text), keys, verify)
        with pytest.raises(LedgerDamaged):
            note.verify_proof(one.line + b" ", note.parse_proof(text), keys, verify)


def test_an_entry_that_no_checkpoint_covers_has_no_proof_yet(filled: Ledger) -> None:
    seq = filled.append("generated", at=NOON, clear={}, sealed={})
    with pytest.raises(NotFound):
        filled.inclusion_proof(seq)
    filled.checkpoint()
    assert filled.inclusion_proof(seq).index == seq
    for outside in (-1, seq + 1):
        with pytest.raises(NotFound):
            filled.inclusion_proof(outside)


def test_older_checkpoints_are_consistent_with_what_was_added_later(filled: Ledger) -> None:
    older = filled.checkpoint()
    old = filled.head()
    for _ in range(13):
        filled.append("generated", at=NOON, clear={}, sealed={})
    filled.checkpoint()
    new = filled.head()
    path = filled.consistency_proof(old.size, new.size)
    tree.verify_consistency(old.size, old.root, new.size, new.root, path)
    filled.verify(older)
    for sizes in ((-1, 3), (3, 2), (0, new.size + 1)):
        with pytest.raises(NotFound):
            filled.consistency_proof(*sizes)


def test_a_checkpoint_of_nothing_new_is_the_same_checkpoint(filled: Ledger) -> None:
    assert filled.checkpoint() == filled.checkpoint()


def test_a_group_of_entries_costs_one_fsync(home: Path) -> None:
    calls: list[int] = []
    ledger = open_ledger(home, None, verify=verify, sync=calls.append)
    calls.clear()
    first = ledger.append_all([NewEntry(event="generated", at=NOON, clear={}, sealed={})] * 32)
    assert (first, len(calls)) == (0, 1)
    assert ledger.head().size == 32


def test_two_views_of_one_ledger_see_each_other(unlocked: Open) -> None:
    mine, yours = unlocked(), unlocked()
    assert [view.append("generated", at=NOON, clear={}, sealed={}) for view in (mine, yours, mine)] == [
        0,
        1,
        2,
    ]
    yours.checkpoint()
    mine.verify()
    assert mine.head().signed_size == 3


# --- locked ------------------------------------------------------------------------------------------


def test_a_locked_sweep_enters_what_it_did_and_the_next_unlock_signs_it(
    locked_out: Open, unlocked: Open
) -> None:
    swept = locked_out().append_deaths(deaths(0, 3), NOON)
    assert swept == 0
    ledger = unlocked()
    assert ledger.head().signed_size == 0
    ledger.checkpoint()
    proof = ledger.inclusion_proof(0)
    note.verify_proof(ledger.entries()[0].line, proof, ledger.head().keys, verify)
    locked_out().verify()


def test_a_locked_run_names_the_facts_that_it_could_not_seal(locked_out: Open, unlocked: Open) -> None:
    locked_out().append("generated-ephemeral", at=NOON, clear={}, sealed={"b": "a red apple", "a": 1})
    (one,) = unlocked().entries()
    assert one.omitted == ("a", "b")
    assert b"apple" not in one.line
    assert unlocked().disclose(0) is None


@pytest.mark.parametrize(
    "use",
    [
        lambda ledger: ledger.checkpoint(),
        lambda ledger: ledger.disclose(0),
        lambda ledger: ledger.keyed_digest("prompt", b"x"),
        lambda ledger: ledger.verify(bodies=True),
        lambda ledger: list(ledger.export_lines(opened=True)),
        lambda ledger: ledger.rotate(AccountKeys(2), NOON),
    ],
)
def test_what_needs_the_keys_says_so(
    filled: Ledger, locked_out: Open, use: Callable[[Ledger], object]
) -> None:
    with pytest.raises(VaultLocked):
        use(locked_out())


# --- what may stand in clear -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clear",
    [
        {"prompt": "a red apple"},
        {"rule": ""},
        {"rule": "é"},
        {"rule": "x" * 129},
        {"Rule": "x"},
        {"a red apple": 1},
        {"score": 0.5},
        {"facts": {"a": "b"}},
        {"items": ["ok", "not ok"]},
        {"line": "a\nb"},
    ],
)
def test_nothing_that_could_be_a_sentence_gets_into_the_clear_part(
    unlocked: Open, clear: dict[str, object]
) -> None:
    ledger = unlocked()
    with pytest.raises(ValueError, match="ledger entry"):
        ledger.append("policy", at=NOON, clear=clear, sealed={})
    with pytest.raises(ValueError, match="one token"):
        ledger.append("a red apple", at=NOON, clear={}, sealed={})
    assert ledger.head().size == 0


def test_an_entry_longer_than_a_mebibyte_is_refused(unlocked: Open) -> None:
    with pytest.raises(ValueError, match="1 MiB"):
        unlocked().append("generated", at=NOON, clear={}, sealed={"x": "y" * (1 << 20)})


def test_keyed_digests_are_the_accounts_own(unlocked: Open) -> None:
    ledger = unlocked()
    first = ledger.keyed_digest("prompt", b"a red apple")
    assert first == ledger.keyed_digest("prompt", b"a red apple")
    assert first != ledger.keyed_digest("account", b"a red apple")
    assert first != AccountKeys(2).digest(b"prompt", b"a red apple").hex()


# --- batches of deaths -------------------------------------------------------------------------------


def test_a_batch_is_one_entry_that_commits_to_every_receipt(filled: Ledger) -> None:
    gone = deaths(0, 7, reason="no output")
    seq = filled.append_deaths(gone, NOON)
    assert seq == 20
    one = filled.entries(after=19)[0]
    assert (one.clear["count"], one.clear["freed_bytes"]) == (7, sum(death.freed_bytes for death in gone))
    lines = filled.receipts(20)
    assert [json.loads(line)["id"] for line in lines] == [death.id for death in gone]
    assert json.loads(lines[0])["reason"] == "no-output"
    assert tree.root_of(lines).hex() == one.clear["root"]


def test_one_receipt_is_proved_without_the_others(filled: Ledger) -> None:
    filled.append_deaths(deaths(0, 9), NOON)
    lines = filled.receipts(20)
    stored: list[bytes] = []
    frontier = tree.Frontier()
    for line in lines:
        stored += frontier.add(tree.leaf_hash(line))
    path = tree.inclusion_path(4, 9, stored.__getitem__)
    root = bytes.fromhex(filled.entries(after=19)[0].clear["root"])
    tree.verify_inclusion(tree.leaf_hash(lines[4]), 4, 9, path, root)


@pytest.mark.parametrize("count", [3, 100])
def test_a_sweep_that_is_told_again_after_a_crash_changes_nothing(filled: Ledger, count: int) -> None:
    filled.append_deaths(deaths(0, count), NOON)
    assert filled.append_deaths(deaths(0, count), NOON) is None
    assert filled.append_deaths([*deaths(0, count + 1), *deaths(count, 1)], NOON) == 21
    assert len(filled.receipts(21)) == 1
    assert filled.append_deaths([], NOON) is None


def test_a_death_without_an_id_is_entered_each_time(filled: Ledger) -> None:
    nameless = Death(id=None, at=NOON, reason="damaged")
    assert filled.append_deaths([nameless], NOON) == 20
    assert filled.append_deaths([nameless], NOON) == 21


def test_only_a_deletion_has_receipts(filled: Ledger) -> None:
    with pytest.raises(NotFound):
        filled.receipts(0)
    for outside in (99, -1):
        with pytest.raises(NotFound):
            filled.receipts(outside)


# --- keys, header, export ----------------------------------------------------------------------------


def test_another_accounts_keys_do_not_open_this_ledger(filled: Ledger, home: Path) -> None:
    with pytest.raises(LedgerDamaged, match="another key"):
        open_ledger(home, AccountKeys(9), verify=verify)


def test_a_rotated_key_is_introduced_by_the_old_one(filled: Ledger, home: Path) -> None:
    older = filled.checkpoint()
    signed = filled.rotate(AccountKeys(2), NOON)
    assert len([line for line in signed.split("\n") if line.startswith("— ")]) == 2
    text, signers = note.verify(signed, filled.head().keys, verify)
    assert len(signers) == 2
    assert note.parse_head(text).size == 21
    ledger = open_ledger(home, AccountKeys(2), verify=verify)
    ledger.append("generated", at=NOON, clear={}, sealed={})
    ledger.checkpoint()
    ledger.verify(older)
    with pytest.raises(LedgerDamaged, match="another key"):
        open_ledger(home, AccountKeys(1), verify=verify)


def test_a_ledger_of_a_newer_version_is_left_alone(filled: Ledger, home: Path, locked_out: Open) -> None:
    header = home / "ledger.json"
    header.write_text(header.read_text().replace("fluxctx.ledger/1", "fluxctx.ledger/2"))
    with pytest.raises(VaultNewer):
        locked_out()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format":"fluxctx.ledger/1","keys":[],"origin":"x"}'])
def test_a_header_of_something_else_is_damage(
    filled: Ledger, home: Path, locked_out: Open, content: str
) -> None:
    (home / "ledger.json").write_text(content)
    with pytest.raises(LedgerDamaged, match="header"):
        locked_out()


def test_a_lost_header_is_written_anew_at_the_next_unlock(filled: Ledger, home: Path, unlocked: Open) -> None:
    (home / "ledger.json").unlink()
    unlocked().verify()


def test_the_ledger_is_exported_as_json_lines_with_and_without_its_facts(filled: Ledger) -> None:
    plain = list(filled.export_lines())
    assert [line.encode() for line in plain] == [one.line for one in filled.entries(limit=50)]
    opened = [json.loads(line) for line in filled.export_lines(opened=True)]
    assert opened[5]["facts"]["output_sha256"] == f"{5:064x}"


def test_the_origin_is_the_vaults_random_id(filled: Ledger) -> None:
    assert filled.head().origin == f"fluxctx/ledger/{LEDGER_ID}"
    assert filled.checkpoint().startswith(f"fluxctx/ledger/{LEDGER_ID}\n20\n")


def test_no_descriptor_stays_open(filled: Ledger) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(5):
        filled.append("generated", at=NOON, clear={}, sealed={})
        filled.verify()
    assert count() == before
