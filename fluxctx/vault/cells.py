"""The `keys` file: fixed-size slots, only ever overwritten in place and fsynced.  No cipher is needed here.

Rules (spec 6): one lock a cell, only ever tried, never waited for; whoever writes a cell holds its lock and has
re-read both slots; what is acknowledged is fsynced, "already gone" too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fluxctx.errors import Busy, DiskFull, HomeReadOnly, StorageFailed, VaultDamaged
from fluxctx.vault.format import (
    CELL_BYTES,
    CELLS_AT,
    EMPTY_SLOT,
    GROWTH_CELLS,
    HEADER_BYTES,
    KEY_SLOT_BYTES,
    KEY_SLOTS,
    SETTLED_AT,
    SLOT_BYTES,
    Cell,
    ItemSlot,
    KeySlot,
    Reason,
    SlotState,
    cell_at,
    dead_slot,
    key_slot_at,
    parse_cell,
    parse_header,
    parse_key_slot,
    render_header,
)

OFD_SETLKW = 91 if sys.platform == "darwin" else 38
OFD_SETLK = 90 if sys.platform == "darwin" else 37  # fcntl(2): locks of the open file description
_FLOCK = struct.Struct("hh4xqqi4x")
SCAN_CELLS = 4096  # 1 MiB at a time


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn the system's refusals into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("no space is left", hint="`fluxctx purge` works on a full disk") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise HomeReadOnly(
                "the vault cannot be written", hint="check the home's mode and mount"
            ) from error
        raise StorageFailed("the system refused a read or write", hint="see `fluxctx doctor`") from error


class KeysFile:
    """One vault's `keys`.  One open file description a thread, so that threads lock against each other too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._open: list[int] = []
        try:
            with storage_errors():
                self.vault_id = parse_header(os.pread(self.fd, HEADER_BYTES, 0))
        except BaseException:
            self.close()
            raise

    @property
    def fd(self) -> int:
        if getattr(self._local, "pid", None) != os.getpid():  # never inherited by a fork
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            self._local.fd, self._local.pid = os.open(self.path, flags), os.getpid()
            self._open.append(self._local.fd)
        return int(self._local.fd)

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())
        self._local = threading.local()

    def sync(self) -> None:
        with storage_errors():
            os.fsync(self.fd)

    def __len__(self) -> int:
        """How many cells there are."""
        return max(0, os.fstat(self.fd).st_size - CELLS_AT) // CELL_BYTES

    # --- cells ------------------------------------------------------------------------------------------

    def read(self, number: int) -> Cell:
        data = os.pread(self.fd, CELL_BYTES, cell_at(number))
        return parse_cell(data.ljust(CELL_BYTES, b"\0"), self.vault_id, number)

    def scan(self) -> Iterator[tuple[int, Cell]]:
        """Every cell that is not free, unlocked: a suggestion that is looked at again under the lock."""
        number, position = 0, CELLS_AT
        while data := os.pread(self.fd, SCAN_CELLS * CELL_BYTES, position):
            for start in range(0, len(data) - CELL_BYTES + 1, CELL_BYTES):
                raw = data[start : start + CELL_BYTES]
                if any(raw):
                    yield number, parse_cell(raw, self.vault_id, number)
                number += 1
            position += len(data)

    @contextmanager
    def locked(self, number: int) -> Iterator[None]:
        """Hold a cell's lock; raises Busy when another holds it."""
        self._lock(number, fcntl.F_WRLCK)
        try:
            yield
        finally:
            self._lock(number, fcntl.F_UNLCK)

    def _lock(self, number: int, kind: int) -> None:
        self._lock_range(cell_at(number), CELL_BYTES, kind)

    def _lock_range(self, start: int, length: int, kind: int, *, wait: bool = False) -> None:
        """Cells are only ever tried; the moment's work of growing or adding a secret is waited for."""
        try:
            how = OFD_SETLKW if wait else OFD_SETLK
            fcntl.fcntl(self.fd, how, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise Busy("another process is working on this item", hint="try again in a moment") from error
            raise StorageFailed(
                "this file system has no locks", hint="keep the vault on a local disk"
            ) from error

    def write(self, number: int, half: int, slot: ItemSlot | None) -> None:
        """Overwrite one slot in place; the caller holds the lock and fsyncs."""
        position = cell_at(number) + half * SLOT_BYTES
        data = slot.render(self.vault_id, position) if slot is not None else EMPTY_SLOT
        with storage_errors():
            os.pwrite(self.fd, data, position)

    def settle(self, number: int) -> None:
        """Set a slot's settled byte: one byte, which cannot tear; the caller holds the lock."""
        cell = self.read(number)
        slot = cell.dead or cell.item
        if slot is not None:
            position = cell_at(number) + cell.slots.index(slot) * SLOT_BYTES + SETTLED_AT
            with storage_errors():
                os.pwrite(self.fd, b"\1", position)

    def allocate(self, count: int, locks: ExitStack, hint: int) -> list[int]:
        """Lock `count` free cells, growing the file where there are too few; `locks` lets them go."""
        found: list[int] = []
        total = len(self)
        for number in [*range(hint, total), *range(min(hint, total))]:
            if len(found) == count:
                break
            self._try_take(number, found, locks)
        while len(found) < count:
            before, total = total, self._grow(total)
            for number in range(before, total):
                if len(found) < count:
                    self._try_take(number, found, locks)
        return found

    def _try_take(self, number: int, found: list[int], locks: ExitStack) -> None:
        if not self.read(number).free:
            return
        try:
            locks.enter_context(self.locked(number))
        except Busy:
            return
        if self.read(number).free:  # looked at again under the lock
            found.append(number)

    def _grow(self, total: int) -> int:
        """Append free cells, unless somebody just did; a byte of the header is the lock for that."""
        self._lock_range(0, 1, fcntl.F_WRLCK, wait=True)
        try:
            if len(self) > total:
                return len(self)
            size = CELLS_AT + len(self) * CELL_BYTES
            with storage_errors():
                os.pwrite(self.fd, bytes(GROWTH_CELLS * CELL_BYTES), size)
                os.fsync(self.fd)
        finally:
            self._lock_range(0, 1, fcntl.F_UNLCK)
        return len(self)

    def destroy(self, number: int, item_id: bytes | None, at_ms: int, reason: Reason) -> bool:
        """Overwrite an item's key with a dead record; the caller holds the lock.  True if this call killed it.

        `item_id` None kills whatever stands there (a damaged cell dies without id).  Needs no space.
        """
        cell = self.read(number)
        slot = cell.item
        if cell.dead is not None or (slot is None and not cell.lost):
            self.sync()  # "already gone" is acknowledged only when the disk says so too
            return False
        if item_id is not None and (slot is None or slot.item_id != item_id):
            self.sync()
            return False
        record = dead_slot(slot.item_id if slot else bytes(16), at_ms, reason)
        half = cell.slots.index(slot) if slot else 0
        self.write(number, half, record)  # over the key itself first
        self.write(number, 1 - half, None)
        self.sync()
        return True

    def free(self, number: int) -> None:
        """Give a dead cell back; the caller holds the lock, the ledger entry is written, the blobs are gone."""
        self.write(number, 0, None)
        self.write(number, 1, None)

    # --- key slots --------------------------------------------------------------------------------------

    def key_slots(self) -> list[tuple[int, KeySlot]]:
        """Every readable key slot; damaged ones are passed over, since another may still open the vault."""
        found = []
        for number in range(KEY_SLOTS):
            try:
                slot = self._key_slot(number)
            except VaultDamaged:
                continue
            if slot is not None:
                found.append((number, slot))
        return found

    def damaged_key_slots(self) -> int:
        """How many key slots fail their checksum."""
        count = 0
        for number in range(KEY_SLOTS):
            try:
                self._key_slot(number)
            except VaultDamaged:
                count += 1
        return count

    def _key_slot(self, number: int) -> KeySlot | None:
        return parse_key_slot(self._key_bytes(number), self.vault_id, key_slot_at(number))

    def _key_bytes(self, number: int) -> bytes:
        return os.pread(self.fd, KEY_SLOT_BYTES, key_slot_at(number))

    def add_key_slot(self, slot: KeySlot) -> int:
        """Write into the first free place and fsync; raises StorageFailed when all are taken."""
        self._lock_range(HEADER_BYTES, 1, fcntl.F_WRLCK, wait=True)
        try:
            for number in range(KEY_SLOTS):
                if not any(self._key_bytes(number)):
                    with storage_errors():
                        os.pwrite(
                            self.fd, slot.render(self.vault_id, key_slot_at(number)), key_slot_at(number)
                        )
                        os.fsync(self.fd)
                    return number
        finally:
            self._lock_range(HEADER_BYTES, 1, fcntl.F_UNLCK)
        raise StorageFailed("all key slots are taken", hint="remove one first")

    def remove_key_slot(self, number: int) -> None:
        """Overwrite a key slot in place."""
        with storage_errors():
            os.pwrite(self.fd, bytes(KEY_SLOT_BYTES), key_slot_at(number))
            os.fsync(self.fd)


def create_keys_file(path: Path, vault_id: bytes) -> KeysFile:
    """Make `keys` with no key in it yet."""
    with storage_errors():
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, render_header(vault_id).ljust(CELLS_AT + GROWTH_CELLS * CELL_BYTES, b"\0"), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_directory(path.parent)
    return KeysFile(path)


def sync_directory(path: Path) -> None:
    """Make a directory's names survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_live(slot: ItemSlot | None, item_id: bytes) -> bool:
    """Whether this slot still holds that item's key."""
    return slot is not None and slot.state is SlotState.LIVE and slot.item_id == item_id
