"""Read every item through its key and say what fails; nothing is changed.  Source: spec vault-v1, section 9."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fluxctx.errors import Busy, FluxctxError, ItemGone, ItemNotFound
from fluxctx.vault.store import Vault
from fluxctx.vault.sweep import milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong; `item` is None where no item can be named."""

    item: str | None
    fault: str


def verify(vault: Vault, *, now: datetime) -> tuple[int, list[Fault]]:
    """(items checked, faults): keys file, each key slot, metadata and every byte of every part."""
    faults = [Fault(item=None, fault="a key slot is damaged")] * vault.keys.damaged_key_slots()
    faults += _rollbacks(vault, now)
    checked = 0
    for item in vault.every(now=now):
        checked += 1
        try:
            vault.metadata(item.id, now=now)
            parts = vault.parts(item.id)
            if "original" not in parts:
                faults.append(Fault(item=item.id, fault="the sealed original is missing"))
            for part in parts:
                vault.read(item.id, part, now=now)
        except (ItemGone, ItemNotFound, Busy):
            continue  # it died while we looked
        except FluxctxError as error:
            faults.append(Fault(item=item.id, fault=str(error)))
    return checked, faults


def _rollbacks(vault: Vault, now: datetime) -> list[Fault]:
    """Damaged cells, keys whose row is missing, and rows whose key is: one of the two files is an older copy."""
    faults = []
    rows = {row.id: row for row in vault.index.rows()}
    held = set()
    for _, cell in vault.keys.scan():
        if cell.lost:
            faults.append(Fault(item=None, fault="an item cell is damaged"))
        item = cell.item
        if item is not None:
            held.add(item.item_id)
            if item.settled and item.item_id not in rows:
                faults.append(
                    Fault(
                        item=item.item_id.hex(), fault="the index does not know it: index.db is an older copy"
                    )
                )
    for row in rows.values():
        alive = row.expires_ms > milliseconds(now)
        if alive and row.id not in held and vault.keys.read(row.cell).dead is None:
            faults.append(
                Fault(item=row.id.hex(), fault="its key is missing: the keys file is an older copy")
            )
    return faults
