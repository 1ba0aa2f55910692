"""The vault's front door: put, get, list, search, retain, purge.  Source: docs/spec/vault-v1.md."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from fluxctx.domain import Death, Item, ItemId, ItemKind, NewItem
from fluxctx.errors import (
    Busy,
    IntegrityError,
    InvalidRequest,
    ItemGone,
    ItemNotFound,
    VaultDamaged,
)
from fluxctx.vault import crypto, ending, unlocking
from fluxctx.vault.cells import KeysFile, is_live, storage_errors, sync_directory
from fluxctx.vault.crypto import RFC_9106_LOW_MEMORY, KdfParams
from fluxctx.vault.format import ItemSlot, Reason, SlotState, item_key_context, part_context
from fluxctx.vault.header import create_vault, read_header
from fluxctx.vault.highwater import load_clock
from fluxctx.vault.index import Index, Row
from fluxctx.vault.paths import VaultPaths
from fluxctx.vault.streaming import read_sealed, write_sealed
from fluxctx.vault.sweep import OnDeaths, milliseconds, moment, unlink_blobs

__all__ = ["Page", "Vault", "create_vault", "open_vault"]
SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some items, newest first, and where the next page begins."""

    items: tuple[Item, ...]
    next: str | None


def open_vault(paths: VaultPaths, secret: unlocking.Secret, *, now: datetime) -> Vault:
    """Unlock a vault; the caller closes it.

    Raises NotFound, WrongPassphrase, VaultDamaged, VaultNewer.
    """
    vault_id = read_header(paths)
    if not paths.keys.exists():
        raise VaultDamaged("the keys file is missing", hint="without it or a backup nothing can be opened")
    keys = KeysFile(paths.keys)
    if keys.vault_id.hex() != vault_id:
        keys.close()
        raise VaultDamaged("the keys file belongs to another vault", hint="restore the right one")
    try:
        return Vault(paths, keys, unlocking.open_master(keys, secret, now_ms=milliseconds(now)))
    except BaseException:
        keys.close()
        raise


class Vault:
    """One unlocked vault in one process.  The index suggests, the key slot decides."""

    def __init__(self, paths: VaultPaths, keys: KeysFile, master: bytes) -> None:
        self.paths, self.keys = paths, keys
        self.vault_id = keys.vault_id
        self._master = master
        self._wrap_key = crypto.hkdf(master, salt=self.vault_id, info=b"fluxctx/v1/item-wrap-key")
        self.index = Index(paths.index, crypto.index_key(master, self.vault_id))

    def close(self) -> None:
        self.index.close()
        self.keys.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def secret(self, name: str) -> bytes:
        """32 random bytes of this vault for one purpose, made when first asked for."""
        key = crypto.hkdf(self._master, salt=self.vault_id, info=b"fluxctx/v1/secrets-key")
        context = b"fluxctx/v1/secret\0" + self.vault_id + name.encode()
        box = self.index.known_secret(name)
        if box is None:
            box = self.index.secret(name, crypto.seal(key, context, secrets.token_bytes(32)))
        try:
            return crypto.open_sealed(key, context, box)
        except IntegrityError as error:
            raise VaultDamaged("a secret of the index was altered", hint="restore a backup") from error

    def add_secret(
        self, secret: unlocking.Secret, *, now: datetime, kdf: KdfParams = RFC_9106_LOW_MEMORY
    ) -> int:
        """Let one more secret open the vault; returns its slot's number."""
        return unlocking.add(self.keys, self._master, secret, now_ms=milliseconds(now), kdf=kdf)

    def replace_secret(
        self, secret: unlocking.Secret, *, now: datetime, kdf: KdfParams = RFC_9106_LOW_MEMORY
    ) -> list[int]:
        """Put a secret in the place of those of its kind; returns the slots that were overwritten."""
        return unlocking.replace_kind(self.keys, self._master, secret, now_ms=milliseconds(now), kdf=kdf)

    # --- put ----------------------------------------------------------------------------------------------

    def put(self, items: Sequence[NewItem], *, now: datetime) -> list[Item]:
        """Seal several items in one group commit; on return they survive a power cut.

        Slots (fsync), blobs (fsync, rename, fsync of the directory), rows (commit), in that order; the cells'
        locks are held until the rows are there, so that nobody takes an unfinished put for a crashed one.
        """
        now_ms = milliseconds(now)
        with ExitStack() as locks:
            cells = self.keys.allocate(len(items), locks, self._hint())
            rows = []
            try:
                for new, cell in zip(items, cells, strict=True):
                    rows.append(self._write_slot(new, cell, now_ms))
                self.keys.sync()
                for new, (row, key) in zip(items, rows, strict=True):
                    self._write_blobs(new, row, key)
                self.index.insert([row for row, _ in rows])
                for cell in cells:
                    self.keys.settle(cell)
            except BaseException:
                self._undo([row for row, _ in rows], now_ms)
                raise
        return [item_of(row) for row, _ in rows]

    def _hint(self) -> int:
        newest = self.index.rows(limit=1)
        return newest[0].cell + 1 if newest else 0

    def _write_slot(self, new: NewItem, cell: int, now_ms: int) -> tuple[Row, bytes]:
        item_id, key = secrets.token_bytes(16), secrets.token_bytes(crypto.KEY_BYTES)
        slot = ItemSlot(
            state=SlotState.LIVE,
            item_id=item_id,
            version=1,
            created_ms=now_ms,
            expires_ms=milliseconds(new.expires_at),
            settled=False,
        )
        self.keys.write(cell, 0, self._wrapped(slot, key))
        metadata = json.dumps(new.metadata, ensure_ascii=False, separators=(",", ":")).encode()
        context = part_context(self.vault_id, item_id, "item", "metadata")
        row = Row(
            seq=0,
            id=item_id,
            cell=cell,
            version=1,
            kind=str(new.kind),
            created_ms=now_ms,
            expires_ms=slot.expires_ms,
            size_bytes=len(new.parts["original"]),
            mime=new.mime,
            metadata=crypto.seal(crypto.metadata_key(key, item_id), context, metadata),
        )
        return row, key

    def _wrapped(self, slot: ItemSlot, key: bytes) -> ItemSlot:
        box = crypto.seal(self._wrap_key, item_key_context(self.vault_id, slot), key)
        return replace(slot, nonce=box[:12], wrapped=box[12:])

    def _write_blobs(self, new: NewItem, row: Row, key: bytes) -> None:
        shard = self.paths.shard(row.id)
        with storage_errors():
            shard.mkdir(mode=0o700, exist_ok=True)
            for part, data in new.parts.items():
                path = self.paths.blob(row.id, part)
                unfinished = path.with_name(path.name + ".part")
                fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with open(fd, "wb", buffering=0) as file:
                    write_sealed(file, key, part_context(self.vault_id, row.id, row.kind, part), data)
                    os.fsync(file.fileno())
                os.rename(unfinished, path)
            sync_directory(shard)
            sync_directory(shard.parent)

    def _undo(self, rows: Sequence[Row], now_ms: int) -> None:
        """A put that failed leaves nothing: its keys die first, which needs no space."""
        for row in rows:
            self.keys.destroy(row.cell, row.id, now_ms, Reason.ORPHAN)
            unlink_blobs(self.paths, row.id)
            self.keys.free(row.cell)
        self.keys.sync()

    # --- get ----------------------------------------------------------------------------------------------

    def _find(self, item_id: ItemId, now: datetime) -> tuple[Row, ItemSlot]:
        """The row and the slot that confirms it; raises ItemNotFound, ItemGone."""
        try:
            raw = bytes.fromhex(item_id)
        except ValueError:
            raise ItemNotFound("no such item", hint="`fluxctx list` shows what there is") from None
        rows = self.index.rows("id = ?", (raw,), limit=1)
        if not rows:
            raise ItemNotFound("no such item", hint="`fluxctx list` shows what there is")
        slot = self._slot_of(rows[0])
        if slot is None:
            raise ItemGone("the item is gone for good", hint="it was purged or has expired")
        if slot.expires_ms <= self._closed_until(now):
            raise ItemGone("the item has expired", hint="it cannot be brought back")
        return rows[0], slot

    def _closed_until(self, now: datetime) -> int:
        """A clock that was put back revives nothing."""
        return max(milliseconds(now), load_clock(self.paths.clock).high_ms)

    def _slot_of(self, row: Row) -> ItemSlot | None:
        """The live slot of a row's cell if it still holds that item; looked at again under the lock before "gone"."""
        slot = self.keys.read(row.cell).item
        if is_live(slot, row.id):
            return slot
        try:
            with self.keys.locked(row.cell):
                slot = self.keys.read(row.cell).item
        except Busy:
            slot = self.keys.read(row.cell).item
        return slot if is_live(slot, row.id) else None

    def _key(self, slot: ItemSlot) -> bytes:
        try:
            return crypto.open_sealed(
                self._wrap_key, item_key_context(self.vault_id, slot), slot.nonce + slot.wrapped
            )
        except IntegrityError as error:
            raise VaultDamaged(
                "an item's key slot was altered", hint="`fluxctx vault verify` says which"
            ) from error

    def get(self, item_id: ItemId, *, now: datetime) -> Item:
        """One item; raises ItemNotFound, ItemGone (expired ones even before the sweep)."""
        row, slot = self._find(item_id, now)
        return replace(item_of(row), expires_at=moment(slot.expires_ms))

    def read(
        self,
        item_id: ItemId,
        part: str = "original",
        *,
        now: datetime,
        start: int = 0,
        length: int | None = None,
    ) -> bytes:
        """A part's bytes, or a range of them; raises ItemNotFound, ItemGone, VaultDamaged."""
        row, slot = self._find(item_id, now)
        key = self._key(slot)
        try:
            fd = os.open(self.paths.blob(row.id, part), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise VaultDamaged(
                "a sealed file is missing", hint="`fluxctx vault verify` says which item"
            ) from None
        try:
            return read_sealed(fd, key, part_context(self.vault_id, row.id, row.kind, part), start, length)
        finally:
            os.close(fd)

    def parts(self, item_id: ItemId) -> list[str]:
        """The names of an item's sealed parts, as they lie on the disk."""
        raw = bytes.fromhex(item_id)
        shard = self.paths.shard(raw)
        found = shard.glob(f"{item_id}.*") if shard.is_dir() else ()
        return sorted(path.name.split(".", 1)[1] for path in found if path.suffix != ".part")

    def metadata(self, item_id: ItemId, *, now: datetime) -> Mapping[str, Any]:
        """The sealed metadata; raises ItemNotFound, ItemGone, VaultDamaged."""
        row, slot = self._find(item_id, now)
        return self._open_metadata(row, slot)

    def _open_metadata(self, row: Row, slot: ItemSlot) -> Mapping[str, Any]:
        context = part_context(self.vault_id, row.id, "item", "metadata")
        try:
            found: Mapping[str, Any] = json.loads(
                crypto.open_sealed(crypto.metadata_key(self._key(slot), row.id), context, row.metadata)
            )
        except IntegrityError as error:
            raise VaultDamaged(
                "an item's metadata was altered", hint="`fluxctx vault verify` says which"
            ) from error
        return found

    # --- find ----------------------------------------------------------------------------------------------

    def list(
        self,
        *,
        now: datetime,
        limit: int = 50,
        after: str | None = None,
        kinds: Sequence[ItemKind] = (),
        before: datetime | None = None,
        expiring_before: datetime | None = None,
    ) -> Page:
        """One page, newest first, by key and never by offset; what has died meanwhile is left out."""
        if after is not None and not after.isdigit():
            raise InvalidRequest("not the `next` of a page", hint="leave --after out for the newest")
        where, values = ["expires > ?"], [self._closed_until(now)]
        position = int(after) if after is not None else None
        if kinds:
            where.append(f"kind IN ({','.join('?' * len(kinds))})")
            values += [str(kind) for kind in kinds]  # type: ignore[misc]
        for column, bound in (("created", before), ("expires", expiring_before)):
            if bound is not None:
                where.append(f"{column} < ?")
                values.append(milliseconds(bound))
        items: list[Item] = []
        while True:
            more = [*where, "seq < ?"] if position is not None else where
            bounds = [*values, position] if position is not None else values
            rows = self.index.rows(" AND ".join(more), bounds, limit=limit + 1 - len(items))
            for row in rows:
                slot = self._slot_of(row)
                if slot is not None and len(items) < limit:
                    items.append(replace(item_of(row), expires_at=moment(slot.expires_ms)))
                    position = row.seq
                elif slot is not None:
                    return Page(items=tuple(items), next=str(position))
                else:
                    position = row.seq
            if not rows:
                return Page(items=tuple(items), next=None)

    def every(self, *, now: datetime, kinds: Sequence[ItemKind] = ()) -> Iterator[Item]:
        """Every living item, newest first, page by page."""
        after = None
        while True:
            page = self.list(now=now, limit=500, after=after, kinds=kinds)
            yield from page.items
            if page.next is None:
                return
            after = page.next

    def resolve(self, reference: str, *, now: datetime) -> ItemId:
        """A full id, an unambiguous prefix, `@last`, `@1` (the newest), `@2`...; uploads do not count for `@`."""
        if reference.startswith("@"):
            word = reference[1:]
            number = 1 if word == "last" else int(word) if word.isdigit() and 0 < int(word) <= 1000 else 0
            if not number:
                raise InvalidRequest("not a reference", hint="@last, @1, @2, or an id from `fluxctx list`")
            page = self.list(now=now, limit=number, kinds=(ItemKind.IMAGE, ItemKind.VIDEO))
            if len(page.items) < number:
                raise ItemNotFound(
                    "there are not that many pictures", hint="`fluxctx list` shows what there is"
                )
            return page.items[number - 1].id
        prefix = reference.lower()
        if not (SHORTEST_PREFIX <= len(prefix) <= 32 and all(c in "0123456789abcdef" for c in prefix)):
            raise InvalidRequest("not an item id", hint="at least 4 hex digits, or @last")
        low, high = bytes.fromhex(prefix.ljust(32, "0")), bytes.fromhex(prefix.ljust(32, "f"))
        rows = [
            row for row in self.index.rows("id BETWEEN ? AND ?", (low, high), limit=20) if self._slot_of(row)
        ]
        if not rows:
            raise ItemNotFound("no such item", hint="`fluxctx list` shows what there is")
        if len(rows) > 1:
            raise InvalidRequest(f"{len(rows)} items begin like this", hint="give more digits of the id")
        return ItemId(rows[0].id.hex())

    def search(self, words: Sequence[str], *, now: datetime, limit: int = 50) -> Sequence[Item]:
        """Items whose prompt or tags hold every word: each recipe is unsealed and read, since no index is kept."""
        wanted = [word.casefold() for word in words]
        found = []
        for row in self.index.rows("expires > ?", (self._closed_until(now),)):
            slot = self.keys.read(row.cell).item
            if slot is None or not is_live(slot, row.id):
                continue
            text = searchable(self._open_metadata(row, slot))
            if all(word in text for word in wanted):
                found.append(replace(item_of(row), expires_at=moment(slot.expires_ms)))
                if len(found) == limit:
                    break
        return found

    # --- change and delete ----------------------------------------------------------------------------------

    def retain(self, item_id: ItemId, expires_at: datetime, *, now: datetime) -> Item:
        """Give an item a new end; raises Busy, ItemNotFound, ItemGone."""
        row, _ = self._find(item_id, now)
        ending.retain(
            self,
            row,
            expires_at,
            closed_until_ms=self._closed_until(now),
            rewrap=lambda slot, changed: self._wrapped(changed, self._key(slot)),
        )
        return self.get(item_id, now=now)

    def purge(
        self,
        ids: Sequence[ItemId],
        *,
        now: datetime,
        reason: str = "purged",
        on_deaths: OnDeaths = lambda deaths: None,
    ) -> Sequence[Death]:
        """Destroy items for good; `on_deaths` enters them into the ledger before their cells are given back."""
        return ending.purge(self, ids, now=now, reason=reason, on_deaths=on_deaths)

    def settle(
        self, cells: Sequence[int], *, now: datetime, on_deaths: OnDeaths = lambda deaths: None
    ) -> int:
        """End the crashed puts among the cells that a sweep found unsettled."""
        return ending.settle(self, cells, now=now, on_deaths=on_deaths)


def item_of(row: Row) -> Item:
    """A row as its owner sees it."""
    return Item(
        id=ItemId(row.id.hex()),
        kind=ItemKind(row.kind),
        created_at=moment(row.created_ms),
        expires_at=moment(row.expires_ms),
        size_bytes=row.size_bytes,
        mime=row.mime,
    )


def searchable(metadata: Mapping[str, Any]) -> str:
    """What `search` looks at: prompt, negative prompt, model and tags."""
    recipe = metadata.get("recipe") or {}
    tags = [f"{key} {value}" for key, value in metadata.get("tags", {}).items()]
    words = [
        recipe.get("prompt", ""),
        recipe.get("negative_prompt", ""),
        recipe.get("model", {}).get("name", ""),
        *tags,
    ]
    return " ".join(words).casefold()
