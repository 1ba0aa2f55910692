"""Receipts of deaths in their file (spec 4), and what a crash between vault and ledger left (spec 8)."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from fluxctx.domain import Death, ItemId
from fluxctx.errors import LedgerDamaged
from fluxctx.ledger import tree
from fluxctx.ledger.entry import Entry
from fluxctx.ledger.files import Files

RECENT_BYTES = 1 << 20  # a sweep is told again at most after a crash, so its receipts are the last ones
RECEIPT_ID = re.compile(rb'"id":"([^"]*)"')
BORN = re.compile(rb'"items?":(?:"([^"]*)"|\[([^\]]*)\])')


def unknown(files: Files, deaths: Sequence[Death]) -> list[Death]:
    """Those of `deaths` that neither repeat one another nor stand among the recent receipts."""
    length = os.fstat(files.receipts).st_size
    recent = os.pread(files.receipts, RECENT_BYTES, max(0, length - RECENT_BYTES))
    told = {match[1].decode() for match in RECEIPT_ID.finditer(recent)} if len(deaths) > 64 else None
    fresh, seen = [], set()
    for death in deaths:
        if death.id is not None:
            known = f'"id":"{death.id}"'.encode() in recent if told is None else death.id in told
            if known or death.id in seen:
                continue
            seen.add(death.id)
        fresh.append(death)
    return fresh


def check_batch(descriptor: int, batch: Entry) -> list[bytes]:
    """The receipts that a batch entry names, compared with its root; raises LedgerDamaged."""
    try:
        first, count, root = batch.clear["first"], batch.clear["count"], bytes.fromhex(batch.clear["root"])
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerDamaged(f"entry {batch.seq} is no whole batch") from error
    lines = read_lines(descriptor, first, count)
    if len(lines) != count or tree.root_of(lines) != root:
        raise LedgerDamaged(f"the receipts of entry {batch.seq} were changed")
    return lines


def read_lines(descriptor: int, first: int, count: int) -> list[bytes]:
    """Up to `count` whole lines from byte `first` on."""
    lines: list[bytes] = []
    rest = b""
    while len(lines) < count:
        block = os.pread(descriptor, 1 << 20, first)
        if not block:
            break
        first += len(block)
        *whole, rest = (rest + block).split(b"\n")
        lines += whole
    return lines[:count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What a comparison of vault and ledger found; all but `revived` has been repaired (spec 8)."""

    recovered: tuple[ItemId, ...] = ()  # lived without an entry
    buried: tuple[ItemId, ...] = ()  # dead without a receipt
    unaccounted: tuple[ItemId, ...] = ()  # entered, and neither alive nor dead
    revived: tuple[ItemId, ...] = ()  # alive although a receipt says dead: the vault was rolled back

    @property
    def clean(self) -> bool:
        """True where vault and ledger agreed."""
        return not (self.recovered or self.buried or self.unaccounted or self.revived)


def plan_reconcile(files: Files, live: Collection[ItemId], dead: Sequence[Death]) -> Reconciled:
    """Compare; changes nothing.

    A dead cell whose id is unknown cannot be compared and is left out.  Memory grows with the number of ids.
    """
    born = set(_born(files))
    told = set(_told(files))
    alive = {bytes.fromhex(one) for one in live}
    buried = [death.id for death in dead if death.id is not None and bytes.fromhex(death.id) not in told]
    gone = told | {bytes.fromhex(death.id) for death in dead if death.id is not None}
    return Reconciled(
        recovered=_ids(alive - born - told),
        buried=tuple(dict.fromkeys(buried)),
        unaccounted=_ids(born - alive - gone),
        revived=_ids(alive & told),
    )


def _ids(raw: Iterable[bytes]) -> tuple[ItemId, ...]:
    return tuple(sorted(ItemId(one.hex()) for one in raw))


def _born(files: Files) -> Iterable[bytes]:
    """Every item id that an entry names."""
    for start in range(0, files.size, 4096):
        for line in files.lines(start, min(files.size, start + 4096)):
            for match in BORN.finditer(line):
                for one in match[1], *(match[2] or b"").replace(b'"', b"").split(b","):
                    if one:
                        yield bytes.fromhex(one.decode())


def _told(files: Files) -> Iterable[bytes]:
    """Every item id that a receipt of a batch entry names."""
    if os.fstat(files.receipts).st_size:
        with mmap.mmap(files.receipts, 0, access=mmap.ACCESS_READ) as content:
            for match in RECEIPT_ID.finditer(content):
                yield bytes.fromhex(match[1].decode())
