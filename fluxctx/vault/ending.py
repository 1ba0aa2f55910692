"""How items end in an open vault: new ends, purge, the settlement of what crashed.  Source: spec vault-v1, 6, 9."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from fluxctx.domain import Death, ItemId
from fluxctx.errors import Busy, DiskFull, ItemGone
from fluxctx.vault.cells import is_live
from fluxctx.vault.format import ItemSlot, Reason
from fluxctx.vault.index import Row
from fluxctx.vault.sweep import OnDeaths, enter, milliseconds, sealed_bytes, unlink_blobs

if TYPE_CHECKING:
    from fluxctx.vault.store import Vault


def retain(
    vault: Vault, row: Row, expires_at: datetime, *, closed_until_ms: int, rewrap: Callable[..., ItemSlot]
) -> None:
    """Give an item a new end: the cell's other slot with the next version, then the old one is zeroed.

    Raises Busy while another process works on it, ItemGone.
    """
    with vault.keys.locked(row.cell):
        cell = vault.keys.read(row.cell)
        slot = cell.item
        if slot is None or not is_live(slot, row.id) or slot.expires_ms <= closed_until_ms:
            raise ItemGone("the item is gone for good", hint="it was purged or has expired")
        half = cell.slots.index(slot)
        changed = replace(slot, version=slot.version + 1, expires_ms=milliseconds(expires_at))
        vault.keys.sync()
        vault.keys.write(row.cell, 1 - half, rewrap(slot, changed))
        vault.keys.sync()
        vault.keys.write(row.cell, half, None)
        vault.keys.sync()
        vault.index.renew(row.id, changed.version, changed.expires_ms)


def purge(
    vault: Vault, ids: Sequence[ItemId], *, now: datetime, reason: str, on_deaths: OnDeaths
) -> list[Death]:
    """Destroy keys in place, enter the deaths, then files, rows and cells.

    On return nobody can open these items again.  Works on a full disk: nothing is allocated before the keys are gone.
    Raises Busy after the others are gone when a cell is held.
    """
    rows = [row for item_id in ids for row in vault.index.rows("id = ?", (bytes.fromhex(item_id),), limit=1)]
    gone: list[Row] = []
    killed: list[Row] = []
    busy = 0
    for row in rows:
        try:
            with vault.keys.locked(row.cell):
                if vault.keys.destroy(row.cell, row.id, milliseconds(now), Reason.PURGED):
                    killed.append(row)
            gone.append(row)
        except Busy:
            busy += 1
    deaths = [
        Death(id=ItemId(row.id.hex()), at=now, reason=reason, freed_bytes=sealed_bytes(vault.paths, row.id))
        for row in killed
    ]
    entered = not deaths or enter(deaths, on_deaths)
    for row in gone:
        unlink_blobs(vault.paths, row.id)
    entered = entered or enter(deaths, on_deaths)  # now there may be room
    if entered:
        _each_dead(vault, gone, vault.keys.settle)
        with suppress(DiskFull, Busy):  # the keys are gone; the next settlement does the rest
            vault.index.delete([row.id for row in gone])
            _each_dead(vault, gone, vault.keys.free)
    if busy:
        raise Busy(f"{busy} items are in use by another process", hint="try again in a moment")
    return deaths


def _each_dead(vault: Vault, rows: Sequence[Row], change: Callable[[int], None]) -> None:
    """Mark or give back the cells of these items, where they are still the dead ones."""
    for row in rows:
        with suppress(Busy), vault.keys.locked(row.cell):
            cell = vault.keys.read(row.cell)
            if cell.dead is not None and cell.dead.item_id == row.id:
                change(row.cell)
    vault.keys.sync()


def settle(vault: Vault, cells: Sequence[int], *, now: datetime, on_deaths: OnDeaths) -> int:
    """End what crashed, among the unsettled cells that a sweep named; forget rows whose end has passed.

    Returns how many puts died.  A cell that another process holds is that process's own put.
    """
    ended = 0
    for number in cells:
        with suppress(Busy, DiskFull), vault.keys.locked(number):
            cell = vault.keys.read(number)
            item = cell.item
            if cell.dead is not None and cell.dead.settled:
                vault.index.delete([cell.dead.item_id])
                vault.keys.free(number)
            if item is None or item.settled:
                continue
            if vault.index.rows("id = ?", (item.item_id,), limit=1):
                vault.keys.settle(number)
                continue
            vault.keys.destroy(number, item.item_id, milliseconds(now), Reason.ORPHAN)
            on_deaths([Death(id=ItemId(item.item_id.hex()), at=now, reason=Reason.ORPHAN.word)])
            unlink_blobs(vault.paths, item.item_id)
            vault.keys.free(number)
            ended += 1
    if cells:
        vault.keys.sync()
    forget(vault, now=now)
    return ended


def forget(vault: Vault, *, now: datetime) -> None:
    """Delete the rows of items whose end has passed and whose cell holds them no more."""
    late = vault.index.rows("expires <= ?", (milliseconds(now),), newest=False)
    stale = [row.id for row in late if not is_live(vault.keys.read(row.cell).item, row.id)]
    if stale:
        with suppress(DiskFull, Busy):
            vault.index.delete(stale)
