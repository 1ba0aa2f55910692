"""The ledger's bars (issue 7) at 1,000,000 entries: append <= 2 ms (no fsync), proof <= 5 ms, verify <= 10 s.

    python benchmarks/ledger.py [--entries 1000000] [--directory DIR]

Builds a ledger by the real code, then measures with real Ed25519 and AES-GCM; medians of 5 series.  A probe
that hashes the same number of 300-byte strings runs beside `verify`, so that a busy machine shows.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fluxctx.ledger import note
from fluxctx.ledger.entry import NewEntry
from fluxctx.ledger.store import Ledger, open_ledger
from tests.ledger.keys import LEDGER_ID, NOON, AccountKeys, deaths, item_id, verify

SERIES = 5
KEYS = AccountKeys()


def facts(number: int) -> NewEntry:
    """What one generated picture enters."""
    clear = {"job": f"job_{number:016x}", "item": item_id(number)}
    sealed = {"workflow": "text-to-image", "model_sha256": "0" * 64, "output_sha256": f"{number:064x}"}
    return NewEntry(event="generated", at=NOON, clear=clear, sealed=sealed)


def timed(what: str, act: Callable[[int], object], count: int, bar: str = "") -> None:
    """Print the median over the series of the mean, and the worst single call, in milliseconds."""
    means, worst = [], 0.0
    for series in range(SERIES):
        total = 0.0
        for number in range(count):
            start = time.perf_counter()
            act(series * count + number)
            spent = time.perf_counter() - start
            total, worst = total + spent, max(worst, spent)
        means.append(total / count)
    print(f"{what:34}{statistics.median(means) * 1e3:9.3f} ms   worst {worst * 1e3:6.2f}   {bar}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        home = Path(directory) / LEDGER_ID
        ledger = build(home, options.entries)
        writing(home, ledger, options.entries)
        reading(home, ledger)
        whole(ledger, options.entries)


def build(home: Path, entries: int) -> Ledger:
    ledger = open_ledger(home, KEYS, verify=verify, sync=lambda _: None)
    start = time.perf_counter()
    for first in range(0, entries, 2000):
        ledger.append_all([facts(number) for number in range(first, min(entries, first + 2000))])
    spent = time.perf_counter() - start
    ledger.checkpoint()
    sizes = {path.name: path.stat().st_size / 1e6 for path in home.iterdir()}
    kept = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items() if size >= 0.5)
    print(f"{entries:,} entries, built in {spent:.0f} s; MB on disk: {kept}")
    return ledger


def writing(home: Path, ledger: Ledger, entries: int) -> None:
    durable = open_ledger(home, KEYS, verify=verify, sync=os.fsync)
    timed("append without fsync", lambda n: ledger.append_all([facts(entries + n)]), 200, "bar 2")
    timed("append with fsync", lambda n: durable.append_all([facts(2 * entries + n)]), 20)
    timed("batch of 100 deaths without fsync", lambda n: ledger.append_deaths(deaths(n * 100, 100), NOON), 10)
    timed("sign a checkpoint without fsync", lambda n: sign_one(ledger, 3 * entries + n), 20)


def sign_one(ledger: Ledger, number: int) -> None:
    ledger.append_all([facts(number)])
    ledger.checkpoint()


def reading(home: Path, ledger: Ledger) -> None:
    signed = ledger.head().signed_size
    timed("inclusion proof", lambda n: ledger.inclusion_proof(n * 7919 % signed), 200, "bar 5")
    timed("consistency proof", lambda n: ledger.consistency_proof(1 + n * 7919 % signed, signed), 200)
    proof, line, keys = ledger.inclusion_proof(5), ledger.entries(4, 1)[0].line, list(ledger.head().keys)
    timed("verify a proof", lambda _: note.verify_proof(line, proof, keys, verify), 100)
    timed("open, all signed", lambda _: open_ledger(home, KEYS, verify=verify), 20)
    timed("a page of 50", lambda n: ledger.entries(n * 7919 % signed, 50), 20)


def whole(ledger: Ledger, entries: int) -> None:
    size = ledger.head().size
    spent, probe, text = [], [], b"x" * 300
    for _ in range(SERIES):
        start = time.perf_counter()
        for _ in range(size):
            hashlib.sha256(text).digest()
        probe.append(time.perf_counter() - start)
        start = time.perf_counter()
        ledger.verify()
        spent.append(time.perf_counter() - start)
    ratio = statistics.median(spent) / statistics.median(probe)
    print(
        f"{'verify everything':34}{statistics.median(spent):9.2f} s    {ratio:.1f} x as many hashes   bar 10"
    )
    print(
        f"{'peak memory up to here':34}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:9.0f} MiB"
    )
    live = [item_id(number) for number in range(entries)]
    start = time.perf_counter()
    found = ledger.reconcile(live, [], NOON)
    spent_s = time.perf_counter() - start
    print(f"{'reconcile with as many items':34}{spent_s:9.2f} s    {len(found.unaccounted)} unaccounted")


if __name__ == "__main__":
    main()
