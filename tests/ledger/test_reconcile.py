"""A crash between vault and ledger: the vault decides, the ledger follows (spec 8)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxctx.domain import Death
from fluxctx.ledger.receipts import Reconciled
from fluxctx.ledger.store import Ledger, open_ledger
from tests.ledger.keys import LEDGER_ID, NOON, AccountKeys, deaths, item_id, verify

Open = Callable[[], Ledger]


def test_vault_and_ledger_that_agree_need_nothing(filled: Ledger) -> None:
    found = filled.reconcile([item_id(number) for number in range(20)], [], NOON)
    assert found.clean
    assert filled.head().size == 20


def test_an_item_that_lives_without_an_entry_gets_one(filled: Ledger) -> None:
    found = filled.reconcile([item_id(number) for number in range(22)], [], NOON)
    assert set(found.recovered) == {item_id(20), item_id(21)}
    assert filled.entries(after=19)[0].event == "recovered"


def test_a_death_without_a_receipt_gets_one(filled: Ledger) -> None:
    found = filled.reconcile(
        [item_id(number) for number in range(18)], [*deaths(18, 2), *deaths(18, 1)], NOON
    )
    assert set(found.buried) == {item_id(18), item_id(19)}
    assert len(filled.receipts(20)) == 2


def test_an_item_that_neither_lives_nor_is_dead_is_said_to_be_unaccounted(filled: Ledger) -> None:
    found = filled.reconcile([item_id(number) for number in range(19)], [], NOON)
    assert found.unaccounted == (item_id(19),)
    assert b"unaccounted" in filled.receipts(20)[0]


def test_a_dead_item_that_lives_again_is_reported_and_left_to_the_caller(filled: Ledger) -> None:
    filled.append_deaths(deaths(0, 1), NOON)
    found = filled.reconcile([item_id(number) for number in range(20)], [], NOON)
    assert found == Reconciled(revived=(item_id(0),))
    assert not found.clean
    assert filled.head().size == 21


def test_a_dead_cell_without_an_id_cannot_be_compared(filled: Ledger) -> None:
    found = filled.reconcile(
        [item_id(number) for number in range(20)], [Death(id=None, at=NOON, reason="damaged")], NOON
    )
    assert found.clean


def test_items_named_in_a_list_count_as_entered(unlocked: Open) -> None:
    ledger = unlocked()
    ledger.append("uploaded", at=NOON, clear={"items": [item_id(1), item_id(2)]}, sealed={})
    ledger.append("uploaded", at=NOON, clear={"items": []}, sealed={})
    assert ledger.reconcile([item_id(1), item_id(2)], [], NOON).clean


def test_a_locked_sweep_can_reconcile_too(filled: Ledger, locked_out: Open) -> None:
    assert locked_out().reconcile([], deaths(0, 20), NOON).buried
    filled.checkpoint()
    filled.verify()


IDS = st.integers(0, 12)


@given(born=st.sets(IDS), told=st.sets(IDS), live=st.sets(IDS), dead=st.sets(IDS))
@settings(deadline=None, max_examples=60)
def test_after_one_pass_a_second_finds_nothing_but_what_is_the_callers(
    tmp_path_factory: pytest.TempPathFactory, born: set[int], told: set[int], live: set[int], dead: set[int]
) -> None:
    dead -= live  # a cell is either
    home = tmp_path_factory.mktemp("reconcile") / LEDGER_ID
    ledger = open_ledger(home, None, verify=verify, sync=lambda _: None)
    for number in sorted(born):
        ledger.append("generated", at=NOON, clear={"item": item_id(number)}, sealed={})
    ledger.append_deaths([death for number in sorted(told) for death in deaths(number, 1)], NOON)
    living = [item_id(number) for number in live]
    cells = [death for number in sorted(dead) for death in deaths(number, 1)]
    first = ledger.reconcile(living, cells, NOON)
    assert set(first.recovered) == {item_id(number) for number in live - born - told}
    assert set(first.buried) == {item_id(number) for number in dead - told}
    assert set(first.unaccounted) == {item_id(number) for number in born - live - dead - told}
    assert set(first.revived) == {item_id(number) for number in live & told}
    size = ledger.head().size
    assert ledger.reconcile(living, cells, NOON) == Reconciled(revived=first.revived)
    assert ledger.head().size == size
    ledger.verify()


# --- processes ---------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.ledger.keys import NOON, AccountKeys, deaths, verify
from fluxctx.ledger.store import open_ledger

ledger = open_ledger(Path(sys.argv[1]), AccountKeys(), verify=verify)
base = int(sys.argv[3])
for number in range(int(sys.argv[4])):
    if number % 7 == 3:
        done = ledger.append_deaths(deaths(base + number, 3), NOON)
    else:
        done = ledger.append("generated", at=NOON, clear={"n": base + number}, sealed={"n": number})
    print(done, base + number, flush=True)
    if number % 5 == 4:
        ledger.checkpoint()
"""


def writer(home: Path, base: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(home), str(Path(__file__).parents[2]), str(base), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def acknowledged(process: subprocess.Popen[str]) -> list[tuple[int, int]]:
    assert process.stdout is not None
    lines = process.stdout.read().split("\n")
    process.stdout.close()
    process.wait()
    return [(int(seq), int(number)) for seq, number in (line.split() for line in lines[:-1])]


def test_processes_that_write_at_once_lose_nothing(home: Path, unlocked: Open) -> None:
    started = [writer(home, base, 30) for base in (1000, 2000, 3000)]
    told = [pair for one in started for pair in acknowledged(one)]
    assert sorted(seq for seq, _ in told) == list(range(90))
    ledger = unlocked()
    ledger.verify()
    for one in ledger.entries(limit=100):
        if one.event == "generated":
            assert (one.seq, one.clear["n"]) in told


def killed_rounds(home: Path, rounds: int, open_: Open) -> int:
    """Kill a writer at random moments; returns how many entries had been acknowledged."""
    rng = random.Random(7)
    told: dict[int, int] = {}
    for base in range(rounds):
        process = writer(home, base * 1000, 900)
        assert process.stdout is not None
        first = process.stdout.readline()
        if first:
            seq, number = first.split()
            told[int(seq)] = int(number)
        os.set_blocking(process.stdout.fileno(), True)
        try:
            process.wait(timeout=rng.random() * 0.08)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        told |= dict(acknowledged(process))
        ledger = open_()
        ledger.verify()
        assert ledger.head().size > max(told, default=-1)
    entries = {one.seq: one for one in open_().entries(limit=100_000)}
    for seq, number in told.items():
        one = entries[seq]
        assert one.event == "deleted" or one.clear["n"] == number
    return len(told)


def test_what_was_acknowledged_survives_kill_9(home: Path, unlocked: Open) -> None:
    assert killed_rounds(home, 5, unlocked) >= 5


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9_at_many_moments(home: Path, unlocked: Open) -> None:
    assert killed_rounds(home, 60, unlocked) >= 60


def test_keys_of_the_writers_are_the_accounts(unlocked: Open) -> None:
    assert unlocked().head().keys[0].public_key == AccountKeys().public_key
