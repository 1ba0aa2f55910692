"""What is detected (spec 10), what a crash leaves (spec 8), and what is honestly not detected."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluxctx.errors import Busy, DiskFull, HomeReadOnly, LedgerDamaged, StorageFailed
from fluxctx.ledger import canonical, files, note, tree
from fluxctx.ledger.entry import NewEntry
from fluxctx.ledger.store import Ledger, open_ledger
from tests.ledger.keys import NOON, AccountKeys, deaths, item_id, verify

Open = Callable[[], Ledger]
CACHES = ("hashes", "offsets")


def small(ledger: Ledger, count: int = 4) -> Ledger:
    for number in range(count):
        ledger.append("generated", at=NOON, clear={"item": item_id(number)}, sealed={"n": number})
    return ledger


def damaged(open_: Open, *, older: str | None = None) -> bool:
    """Whether opening or a full verification notices."""
    try:
        open_().verify(older)
    except LedgerDamaged:
        return True
    return False


def without_caches(home: Path) -> None:
    for name in CACHES:
        (home / name).unlink()


# --- changes before the checkpoint -------------------------------------------------------------------


@pytest.mark.parametrize("caches", ["kept", "removed"])
def test_every_changed_bit_before_the_checkpoint_is_noticed(unlocked: Open, home: Path, caches: str) -> None:
    small(unlocked(), 2).checkpoint()
    path = home / "entries.jsonl"
    raw = path.read_bytes()
    for position in range(len(raw)):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 1 << position % 8]) + raw[position + 1 :])
        if caches == "removed":
            without_caches(home)
        assert damaged(unlocked), position
        path.write_bytes(raw)
        without_caches(home)
        assert not damaged(unlocked)


def renumbered(lines: list[bytes]) -> list[bytes]:
    """What a careful forger does: the numbers run on."""
    return [re.sub(rb'"seq":\d+}$', b'"seq":%d}' % number, line) for number, line in enumerate(lines)]


FORGERIES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "dropped first": lambda lines: lines[1:],
    "dropped inside": lambda lines: lines[:1] + lines[2:],
    "swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "doubled": lambda lines: [lines[0], *lines],
    "reversed": lambda lines: lines[::-1],
    "emptied": lambda lines: [],
    "cut to one": lambda lines: lines[:1],
    "cut by one": lambda lines: lines[:-1],
    "inserted empty line": lambda lines: [lines[0], b"", *lines[1:]],
}


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("renumber", [False, True])
@pytest.mark.parametrize("caches", ["kept", "removed"])
def test_dropped_swapped_doubled_and_cut_entries_are_noticed(
    unlocked: Open, home: Path, name: str, renumber: bool, caches: str
) -> None:
    small(unlocked()).checkpoint()
    path = home / "entries.jsonl"
    forged = FORGERIES[name](path.read_bytes().split(b"\n")[:-1])
    path.write_bytes(b"".join(line + b"\n" for line in (renumbered(forged) if renumber else forged)))
    if caches == "removed":
        without_caches(home)
    assert damaged(unlocked)


def test_a_changed_entry_is_named(unlocked: Open, home: Path) -> None:
    ledger = small(unlocked())
    ledger.checkpoint()
    path = home / "entries.jsonl"
    path.write_bytes(path.read_bytes().replace(item_id(2).encode(), item_id(7).encode()))
    with pytest.raises(LedgerDamaged, match="entry 2 was changed") as caught:
        ledger.verify()
    assert caught.value.details == {"size": 4, "entry": 2}
    with pytest.raises(LedgerDamaged, match="entry 2 was changed"):
        ledger.inclusion_proof(2)


def test_a_checkpoint_that_does_not_verify_is_damage(filled: Ledger, home: Path, unlocked: Open) -> None:
    path = home / "checkpoint"
    good = path.read_text()
    forged = note.TreeHead(origin=filled.origin, size=3, root=b"\x00" * 32)
    stranger = note.VerifierKey(name=filled.origin, public_key=AccountKeys(2).public_key)
    for text in (
        good.replace("\n20\n", "\n19\n"),
        good[:-10] + "\n",
        "",
        good + "x",
        note.sign(str(forged), [(stranger, AccountKeys(2).sign)]),
    ):
        path.write_text(text)
        assert damaged(unlocked), text
    path.write_bytes(b"\xff\xfe")
    assert damaged(unlocked)
    path.write_text(good)
    assert not damaged(unlocked)


def test_a_checkpoint_of_another_ledger_is_refused(filled: Ledger) -> None:
    other = note.TreeHead(origin="fluxctx/ledger/other", size=20, root=filled.head().root)
    key = note.VerifierKey(name=filled.origin, public_key=AccountKeys().public_key)
    with pytest.raises(LedgerDamaged, match="another ledger"):
        filled.verify(note.sign(str(other), [(key, AccountKeys().sign)]))


# --- what only an outside checkpoint shows -----------------------------------------------------------


def test_putting_everything_back_is_seen_only_against_a_checkpoint_kept_outside(
    unlocked: Open, home: Path
) -> None:
    small(unlocked(), 2).checkpoint()
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    outside = small(unlocked(), 2).checkpoint()
    for name, content in before.items():
        (home / name).write_bytes(content)
    assert not damaged(unlocked)
    assert damaged(unlocked, older=outside)


def test_an_owner_who_writes_the_whole_ledger_anew_is_seen_only_against_an_outside_checkpoint(
    unlocked: Open, home: Path
) -> None:
    outside = small(unlocked()).checkpoint()
    for path in home.iterdir():
        path.unlink()
    ledger = unlocked()
    for number in range(4):
        ledger.append("generated", at=NOON, clear={"item": item_id(number + 50)}, sealed={"n": number})
    ledger.checkpoint()
    assert not damaged(unlocked)
    assert damaged(unlocked, older=outside)


def test_unsigned_entries_can_be_changed_and_the_specification_says_so(locked_out: Open, home: Path) -> None:
    locked_out().append("deleted-note", at=NOON, clear={"n": 1}, sealed={})
    path = home / "entries.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":2'))
    assert not damaged(locked_out)


# --- receipts and bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [True, False])
def test_every_changed_byte_of_a_receipt_is_noticed(filled: Ledger, home: Path, signed: bool) -> None:
    filled.append_deaths(deaths(0, 2), NOON)
    if signed:
        filled.checkpoint()
    path = home / "receipts.jsonl"
    raw = path.read_bytes()
    for position in range(0, len(raw), 3):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :])
        with pytest.raises(LedgerDamaged, match="receipts of entry 20"):
            filled.verify()
    path.write_bytes(b"")
    with pytest.raises(LedgerDamaged):
        filled.receipts(20)


def test_an_event_that_only_looks_like_a_batch_is_damage(unlocked: Open) -> None:
    ledger = unlocked()
    ledger.append("deleted", at=NOON, clear={"count": 1}, sealed={})
    with pytest.raises(LedgerDamaged, match="no whole batch"):
        ledger.verify()


def test_a_body_moved_to_another_entry_does_not_open(unlocked: Open, home: Path) -> None:
    small(unlocked(), 2)
    path = home / "entries.jsonl"
    lines = [canonical.parse(line) for line in path.read_bytes().split(b"\n")[:-1]]
    for name in ("sealed", "commit"):
        lines[0][name], lines[1][name] = lines[1][name], lines[0][name]
    path.write_bytes(b"".join(canonical.render(line) + b"\n" for line in lines))
    ledger = unlocked()
    ledger.verify()
    with pytest.raises(LedgerDamaged, match="sealed body of entry 0"):
        ledger.verify(bodies=True)


def test_bodies_that_fit_their_commitments_verify(filled: Ledger) -> None:
    filled.append_deaths(deaths(0, 2), NOON)
    filled.verify(bodies=True)


# --- torn tails --------------------------------------------------------------------------------------


def test_a_line_torn_at_any_byte_is_cut_off_and_all_before_it_stays(unlocked: Open, home: Path) -> None:
    small(unlocked(), 2).checkpoint()
    small(unlocked(), 1)
    whole = (home / "entries.jsonl").read_bytes()
    state = {name: (home / name).read_bytes() for name in CACHES}
    start = whole[:-1].rindex(b"\n") + 1
    for cut in range(start, len(whole)):
        (home / "entries.jsonl").write_bytes(whole[:cut])
        for name, size in (("hashes", 3 * 32), ("offsets", 2 * 8)):  # the caches follow the entry, never lead
            (home / name).write_bytes(state[name][:size])
        ledger = unlocked()
        assert ledger.head().size == 2
        assert (home / "entries.jsonl").read_bytes() == whole[:start]
        assert ledger.append("generated", at=NOON, clear={}, sealed={}) == 2
        ledger.verify()


@pytest.mark.parametrize("tail", [b"\x00" * 5000, b"\x00" * 100 + b"\n", b"{}\n", b"x", b'{"at":1}\n'])
def test_zeros_and_rubbish_after_the_last_entry_are_cut_off(
    filled: Ledger, home: Path, tail: bytes, unlocked: Open
) -> None:
    path = home / "entries.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert unlocked().head().size == 20
    assert path.read_bytes() == whole


@pytest.mark.parametrize("tail", [b"{}\n{}\n", b"x\n\n", b"y" * (5 << 20)])
def test_more_than_a_torn_tail_is_damage_and_nothing_is_written(
    filled: Ledger, home: Path, tail: bytes, unlocked: Open
) -> None:
    path = home / "entries.jsonl"
    whole = path.read_bytes() + tail
    path.write_bytes(whole)
    with pytest.raises(LedgerDamaged, match="entry 20 does not parse"):
        unlocked()
    assert path.read_bytes() == whole


def test_an_entry_out_of_turn_after_the_last_one_is_damage(
    filled: Ledger, home: Path, unlocked: Open
) -> None:
    path = home / "entries.jsonl"
    lines = path.read_bytes()
    first = lines.split(b"\n")[0]
    for tail in (first + b"\n", first + b"\n" + first + b"\n"):
        path.write_bytes(lines + tail)
        with pytest.raises(LedgerDamaged):
            unlocked()
        assert path.read_bytes() == lines + tail


def test_entries_that_were_written_but_not_cached_are_adopted(unlocked: Open, home: Path) -> None:
    ledger = small(unlocked(), 40)
    ledger.checkpoint()
    root = ledger.head().root
    for name, size in (("hashes", 32 * 7), ("offsets", 8 * 4)):
        os.truncate(home / name, size)
    again = unlocked()
    assert (again.head().size, again.head().root) == (40, root)
    again.verify()


def test_a_large_unsigned_tail_is_adopted_block_by_block(locked_out: Open, home: Path) -> None:
    ledger = locked_out()
    filler = {"items": [item_id(number) for number in range(2000)]}
    ledger.append_all([NewEntry(event="imported", at=NOON, clear=filler, sealed={})] * 150)
    root = ledger.head().root
    assert (home / "entries.jsonl").stat().st_size > 8 << 20
    without_caches(home)
    assert locked_out().head().root == root


# --- caches are never believed over the entries ------------------------------------------------------


@pytest.mark.parametrize("name", CACHES)
def test_a_changed_cache_costs_time_and_no_truth(
    filled: Ledger, home: Path, name: str, unlocked: Open
) -> None:
    filled.append("generated", at=NOON, clear={}, sealed={})
    path = home / name
    raw = path.read_bytes()
    head = filled.head()
    for position in range(0, len(raw), 5):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :])
        try:
            ledger = unlocked()
        except LedgerDamaged:
            assert name == "offsets"  # the last offset says where the entries end: see the next test
            assert position >= len(raw) - 8
            continue
        ledger.verify()
        assert path.read_bytes() == raw, position
        assert ledger.head() == head
        assert ledger.inclusion_proof(3).path == filled.inclusion_proof(3).path


def test_a_proof_over_a_changed_cache_is_made_from_the_entries(filled: Ledger, home: Path) -> None:
    good = filled.inclusion_proof(3)
    path = home / "hashes"
    raw = bytearray(path.read_bytes())
    raw[tree.stored_place(0, 2) * 32] ^= 1
    path.write_bytes(raw)
    assert filled.inclusion_proof(3) == good


def test_holes_that_a_power_cut_left_in_the_caches_are_filled(
    filled: Ledger, home: Path, unlocked: Open
) -> None:
    small(unlocked(), 3)
    head = filled.head()
    for name in CACHES:
        raw = (home / name).read_bytes()
        (home / name).write_bytes(raw[: len(raw) // 2] + bytes(len(raw) - len(raw) // 2))
        assert unlocked().head() == head
        unlocked().verify()


def test_a_hash_cache_alone_cut_short_is_built_anew(filled: Ledger, home: Path, unlocked: Open) -> None:
    head = filled.head()
    os.truncate(home / "hashes", 32)
    assert unlocked().head() == head


def test_a_place_beyond_the_hash_cache_is_damage(filled: Ledger, home: Path) -> None:
    with files.locked(home, os.fsync) as opened, pytest.raises(LedgerDamaged, match="incomplete"):
        opened.read_hash(1000)


def test_an_offset_that_points_outside_is_damage_until_it_is_verified(filled: Ledger, home: Path) -> None:
    raw = (home / "offsets").read_bytes()
    (home / "offsets").write_bytes(raw[:32] + (1 << 40).to_bytes(8, "big") + raw[40:])
    for page in ((3, 1), (4, 1)):
        with pytest.raises(LedgerDamaged, match="not where they should be"):
            filled.entries(*page)
    filled.verify()
    assert filled.entries(3, 1)[0].seq == 4


def test_entries_and_caches_forged_together_are_seen_by_their_numbers(locked_out: Open, home: Path) -> None:
    small(locked_out())
    path = home / "entries.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1]
    lines[1], lines[2] = lines[2], lines[1]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    frontier = tree.Frontier()
    (home / "hashes").write_bytes(b"".join(b"".join(frontier.add(tree.leaf_hash(line))) for line in lines))
    with pytest.raises(LedgerDamaged, match="out of turn"):
        locked_out().verify()


def test_entries_missing_at_the_end_are_damage_as_long_as_a_cache_remembers_them(
    filled: Ledger, home: Path, unlocked: Open
) -> None:
    filled.append("generated", at=NOON, clear={}, sealed={})
    path = home / "entries.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"\n".join(whole.split(b"\n")[:20]) + b"\n")
    with pytest.raises(LedgerDamaged, match="missing at the end"):
        unlocked()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(LedgerDamaged, match="missing at the end"):
        unlocked()


# --- writes that fail --------------------------------------------------------------------------------


@pytest.fixture
def failing(home: Path) -> Iterator[Callable[[int, int], Ledger]]:
    """A ledger whose n-th fsync from now on fails."""

    def build(number: int, after: int) -> Ledger:
        left = [after]

        def sync(_: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(number, "refused", str(home))

        return open_ledger(home, AccountKeys(), verify=verify, sync=sync)

    return build  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EROFS, HomeReadOnly),
        (errno.EIO, StorageFailed),
    ],
)
def test_an_entry_that_could_not_be_synced_is_not_there(
    filled: Ledger, home: Path, failing: Callable[[int, int], Ledger], number: int, error: type[Exception]
) -> None:
    broken = failing(number, 0)
    for act in (
        lambda: broken.append("generated", at=NOON, clear={}, sealed={}),
        lambda: broken.append_deaths(deaths(0, 2), NOON),
    ):
        with pytest.raises(error) as caught:
            act()
        assert "ledgers" not in str(caught.value)
    assert filled.head().size == 20
    assert (home / "receipts.jsonl").stat().st_size == 0
    filled.verify()


def test_receipts_whose_entry_failed_are_ignored(
    filled: Ledger, failing: Callable[[int, int], Ledger]
) -> None:
    with pytest.raises(DiskFull):
        failing(errno.ENOSPC, 1).append_deaths(deaths(0, 2), NOON)
    seq = filled.append_deaths(deaths(5, 2), NOON)
    assert seq == 20
    assert len(filled.receipts(20)) == 2
    filled.verify()


def test_a_checkpoint_that_could_not_be_written_leaves_the_older_one(
    filled: Ledger, failing: Callable[[int, int], Ledger]
) -> None:
    older = filled.checkpoint()
    filled.append("generated", at=NOON, clear={}, sealed={})
    for after in range(3):
        with pytest.raises(DiskFull):
            failing(errno.ENOSPC, after).checkpoint()
        assert filled.head().checkpoint == older
    filled.checkpoint()
    filled.verify(older)


def test_caches_that_cannot_be_written_do_not_undo_an_entry(
    filled: Ledger, monkeypatch: pytest.MonkeyPatch, unlocked: Open
) -> None:
    def full(self: files.Files, lines: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(files.Files, "enter", full)
        assert filled.append("generated", at=NOON, clear={}, sealed={}) == 20
    assert unlocked().head().size == 21
    unlocked().verify()


def test_a_home_that_cannot_be_read_says_so_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed) as caught:
        open_ledger(tmp_path / "file" / "ledger", None, verify=verify)
    assert str(tmp_path) not in str(caught.value)


def test_a_lock_that_never_comes_is_busy(
    filled: Ledger, home: Path, monkeypatch: pytest.MonkeyPatch, unlocked: Open
) -> None:
    monkeypatch.setattr(files, "LOCK_WAIT_S", 0.01)
    with files.locked(home, os.fsync), pytest.raises(Busy):
        filled.append("generated", at=NOON, clear={}, sealed={})
    assert filled.append("generated", at=NOON, clear={}, sealed={}) == 20


def test_a_change_at_the_beginning_of_a_large_ledger_is_named(
    locked_out: Open, unlocked: Open, home: Path
) -> None:
    filler = {"items": [item_id(number) for number in range(2000)]}
    locked_out().append_all([NewEntry(event="imported", at=NOON, clear=filler, sealed={})] * 60)
    ledger = unlocked()
    ledger.checkpoint()
    with (home / "entries.jsonl").open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(LedgerDamaged, match="entry 0 was changed"):
        ledger.verify()
