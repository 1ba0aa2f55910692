"""Destroy what has expired, while the vault is locked: no key, no cipher, no index is needed.

Order (spec 8): dead record, fsync = the key is gone; the ledger entry; the blobs; only then the cell is free.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from fluxctx.domain import Death, ItemId, SweepResult
from fluxctx.errors import Busy, DiskFull
from fluxctx.vault.cells import KeysFile, storage_errors, sync_directory
from fluxctx.vault.format import Cell, ItemSlot, Reason
from fluxctx.vault.highwater import load_clock, read_moment, save_clock, worth_saving
from fluxctx.vault.paths import VaultPaths

OnDeaths = Callable[[Sequence[Death]], object]
BATCH = 256


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


@dataclass(slots=True)
class _Counts:
    closed: int = 0
    busy: int = 0
    damaged: int = 0
    freed_bytes: int = 0
    unsettled: list[int] = field(default_factory=list)


def sweep(
    paths: VaultPaths, *, now: datetime, running_s: float, on_deaths: OnDeaths = lambda deaths: None
) -> SweepResult:
    """One pass over `keys`.  Safe beside any number of other processes, and after any crash.

    Args:
        paths: One vault.
        now: The wall clock.
        running_s: A clock that nobody sets (CLOCK_BOOTTIME).
        on_deaths: Writes the ledger entry; called before a cell is given back.
    """
    old = load_clock(paths.clock)
    reading = read_moment(old, milliseconds(now), running_s)
    counts, deaths = _Counts(), []
    keys = KeysFile(paths.keys)
    try:
        batch: list[tuple[int, Death]] = []
        for number, cell in keys.scan():
            death = _visit(keys, paths, number, cell, reading.now_ms, reading.destroy_ms, counts)
            if death is not None:
                batch.append((number, death))
            if len(batch) >= BATCH:
                deaths += _bury(keys, paths, batch, on_deaths, counts)
                batch = []
        deaths += _bury(keys, paths, batch, on_deaths, counts)
    finally:
        keys.close()
    if worth_saving(old, reading.clock) or deaths:
        save_clock(paths.clock, reading.clock)
    return SweepResult(
        deaths=tuple(deaths),
        freed_bytes=counts.freed_bytes,
        closed=counts.closed,
        busy=counts.busy,
        damaged=counts.damaged,
        unsettled=tuple(counts.unsettled),
    )


def _visit(
    keys: KeysFile, paths: VaultPaths, number: int, cell: Cell, now_ms: int, destroy_ms: int, counts: _Counts
) -> Death | None:
    """Look at one cell; returns the death of the item that stood in it, fresh or found unfinished."""
    item = cell.item
    expired = item is not None and item.expires_ms <= destroy_ms
    if item is not None and not expired and item.expires_ms <= now_ms:
        counts.closed += 1
    if item is not None and not expired and not item.settled:
        counts.unsettled.append(number)
    if not (expired or cell.lost or cell.dead or any(cell.damaged)):
        return None
    try:
        with keys.locked(number):
            return _settle(keys, number, destroy_ms, now_ms, counts)
    except Busy:
        counts.busy += 1
        return None


def _settle(keys: KeysFile, number: int, destroy_ms: int, now_ms: int, counts: _Counts) -> Death | None:
    """Decide again under the lock, then write."""
    cell = keys.read(number)
    if any(cell.damaged):
        counts.damaged += 1
        if cell.item is not None:  # the other slot is whole: zero the damaged one
            keys.write(number, cell.damaged.index(True), None)
            keys.sync()
    if cell.dead is not None:
        if cell.dead.settled:
            _give_back(keys, number, cell.dead, counts)
            return None
        return Death(
            id=_id(cell.dead.item_id), at=moment(cell.dead.created_ms), reason=Reason(cell.dead.reason).word
        )
    item = cell.item
    if item is not None and item.expires_ms <= destroy_ms:
        keys.destroy(number, item.item_id, now_ms, Reason.EXPIRED)
        return Death(id=_id(item.item_id), at=moment(now_ms), reason=Reason.EXPIRED.word)
    if cell.lost:
        keys.destroy(number, None, now_ms, Reason.DAMAGED)
        return Death(id=None, at=moment(now_ms), reason=Reason.DAMAGED.word)
    return None


def _id(raw: bytes) -> ItemId | None:
    return ItemId(raw.hex()) if any(raw) else None


def _bury(
    keys: KeysFile, paths: VaultPaths, batch: list[tuple[int, Death]], on_deaths: OnDeaths, counts: _Counts
) -> list[Death]:
    """Ledger entry, blobs, directories, and only then the cells."""
    if not batch:
        return []
    sizes = [sealed_bytes(paths, bytes.fromhex(death.id)) if death.id else 0 for _, death in batch]
    deaths = [replace(death, freed_bytes=size) for (_, death), size in zip(batch, sizes, strict=True)]
    entered = enter(deaths, on_deaths)
    for death in deaths:
        if death.id:
            counts.freed_bytes += unlink_blobs(paths, bytes.fromhex(death.id))
    if any(death.id is None for death in deaths):
        counts.freed_bytes += unlink_strays(keys, paths)
    if not entered and not enter(deaths, on_deaths):  # now there may be room
        return deaths  # the cells stay dead, and the next sweep enters them
    for number, death in batch:
        with suppress(Busy), keys.locked(number):
            cell = keys.read(number)
            if cell.dead is not None and _id(cell.dead.item_id) == death.id:
                keys.settle(number)
                _give_back(keys, number, cell.dead, counts)
    keys.sync()
    return deaths


def _give_back(keys: KeysFile, number: int, dead: ItemSlot, counts: _Counts) -> None:
    """Free a cell whose death is entered; a purged one waits for its row, which only an open vault can delete."""
    if dead.reason == Reason.PURGED:
        counts.unsettled.append(number)
    else:
        keys.free(number)


def enter(deaths: Sequence[Death], on_deaths: OnDeaths) -> bool:
    """Enter deaths into the ledger; False where the disk is full, since a key's death waits for nobody."""
    try:
        on_deaths(deaths)
    except DiskFull:
        return False
    return True


def sealed_bytes(paths: VaultPaths, item_id: bytes) -> int:
    """How much an item's files take."""
    size = 0
    for entry in paths.blobs_of(item_id):
        with suppress(FileNotFoundError):
            size += entry.stat().st_size
    return size


def unlink_blobs(paths: VaultPaths, item_id: bytes) -> int:
    """Remove an item's files; returns the bytes freed."""
    freed = 0
    with storage_errors():
        for entry in list(paths.blobs_of(item_id)):
            with suppress(FileNotFoundError):  # another process does the same
                freed += entry.stat().st_size
                os.unlink(entry.path)
        if freed:
            sync_directory(paths.shard(item_id))
    return freed


def unlink_strays(keys: KeysFile, paths: VaultPaths) -> int:
    """Remove blobs whose id stands in no cell: for a cell that died without an id.

    Blobs are listed first, then every cell is read under its lock, so that a put in between is not its victim.
    """
    listed: dict[bytes, list[str]] = {}
    for item_id, entry in paths.every_blob():
        listed.setdefault(item_id, []).append(entry.path)
    known = set()
    for number in range(len(keys)):
        try:
            with keys.locked(number):
                cell = keys.read(number)
        except Busy:
            return 0  # somebody writes: the next sweep finds the strays
        known |= {slot.item_id for slot in cell.slots if slot is not None}
    freed = 0
    for item_id, found in listed.items():
        if item_id not in known:
            for path in found:
                with suppress(FileNotFoundError):
                    freed += os.stat(path).st_size
                    os.unlink(path)
    return freed
