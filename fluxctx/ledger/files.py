"""The ledger's files (spec 7 and 8): one lock, one append, a torn tail cut off, caches built anew."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fluxctx.errors import Busy, DiskFull, HomeReadOnly, LedgerDamaged, StorageFailed
from fluxctx.ledger import entry, tree

Sync = Callable[[int], None]

OFFSET_BYTES = 8
BLOCK_BYTES = 1 << 20
LOCK_WAIT_S = 30.0


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Turn the operating system's refusal into ours, without a path in it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                "no space is left for the ledger", hint="free some space; nothing was half written"
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise HomeReadOnly("the ledger cannot be written") from error
        raise StorageFailed("the ledger's files could not be used") from error


def write_private(path: Path, content: bytes, sync: Sync) -> None:
    """Replace a file so that a reader sees the old or the new one, never a part (spec 7)."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _write_at(descriptor, content, 0)
        sync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(path)
    sync_directory(path.parent, sync)


def sync_directory(path: Path, sync: Sync) -> None:
    """Make names durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Files:
    """The open files under the lock.  `size` entries end at byte `end`; caches are as long as both say."""

    directory: Path
    sync: Sync
    entries: int
    receipts: int
    offsets: int
    hashes: int
    size: int = 0
    end: int = 0

    # --- reading -----------------------------------------------------------------------------------

    def read_hash(self, place: int) -> bytes:
        """The complete subtree stored at `place`; raises LedgerDamaged where the cache is too short."""
        raw = os.pread(self.hashes, tree.HASH_BYTES, place * tree.HASH_BYTES)
        if len(raw) != tree.HASH_BYTES:
            raise LedgerDamaged(
                "the ledger's hash cache is incomplete", hint="`fluxctx ledger verify` builds it anew"
            )
        return raw

    def offset(self, count: int) -> int:
        """Where entry `count` begins: the byte after the LF of the one before it."""
        if count == 0:
            return 0
        return int.from_bytes(os.pread(self.offsets, OFFSET_BYTES, (count - 1) * OFFSET_BYTES), "big")

    def lines(self, first: int, last: int) -> list[bytes]:
        """The lines of entries first..last-1, without LF; raises LedgerDamaged."""
        start, end = self.offset(first), self.offset(last)
        lines = _pread(self.entries, end - start, start).split(b"\n")
        if lines.pop() or len(lines) != last - first:
            raise LedgerDamaged("the ledger's entries are not where they should be")
        return lines

    def frontier(self, size: int | None = None) -> tree.Frontier:
        """The growing edge after `size` entries, by the cache."""
        return tree.frontier_at(self.size if size is None else size, self.read_hash)

    # --- writing -----------------------------------------------------------------------------------

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines, fsync, and only then enter them into the caches; nothing stays if it fails."""
        try:
            _write_at(self.entries, b"".join(line + b"\n" for line in lines), self.end)
            self.sync(self.entries)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.entries, self.end)
            raise
        with contextlib.suppress(OSError):  # the entries stand; whoever opens next builds the caches
            self.enter(lines)

    def append_receipts(self, lines: Sequence[bytes]) -> int:
        """Write receipts and fsync; returns the position of the first."""
        first = os.fstat(self.receipts).st_size
        try:
            _write_at(self.receipts, b"".join(line + b"\n" for line in lines), first)
            self.sync(self.receipts)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.receipts, first)
            raise
        return first

    def enter(self, lines: Sequence[bytes]) -> None:
        """Extend the caches by entries that stand in the file."""
        frontier = self.frontier()
        nodes, ends, end = [], [], self.end
        for line in lines:
            nodes += frontier.add(tree.leaf_hash(line))
            end += len(line) + 1
            ends.append(end.to_bytes(OFFSET_BYTES, "big"))
        _write_at(self.hashes, b"".join(nodes), tree.stored_count(self.size) * tree.HASH_BYTES)
        _write_at(self.offsets, b"".join(ends), self.size * OFFSET_BYTES)
        self.size, self.end = frontier.size, end

    def sync_caches(self) -> None:
        """Make the caches durable: what a checkpoint covers is never hashed again at opening."""
        self.sync(self.hashes)
        self.sync(self.offsets)

    # --- settling ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Bring caches and entries together and cut off a torn tail; raises LedgerDamaged (spec 8)."""
        self.size = os.fstat(self.offsets).st_size // OFFSET_BYTES
        self.end = self.offset(self.size)
        length = os.fstat(self.entries).st_size
        if self.size and not self.end:  # a hole that a power cut left in the cache
            self.drop_caches(0)
        if self.end > length or (self.end and os.pread(self.entries, 1, self.end - 1) != b"\n"):
            raise LedgerDamaged("entries are missing at the end of the ledger")
        if os.fstat(self.hashes).st_size // tree.HASH_BYTES < tree.stored_count(self.size):
            self.drop_caches(0)
        if self.end < length:
            self._adopt(length)

    def drop_caches(self, size: int) -> None:
        """Forget what the caches say beyond the first `size` entries."""
        end = self.offset(size)
        os.ftruncate(self.offsets, size * OFFSET_BYTES)
        os.ftruncate(self.hashes, tree.stored_count(size) * tree.HASH_BYTES)
        self.size, self.end = size, end

    def _adopt(self, length: int) -> None:
        """Enter whole lines that were written and not entered; what was never acknowledged is cut off."""
        while self.end < length:
            lines = _pread(self.entries, min(length - self.end, 4 * BLOCK_BYTES), self.end).split(b"\n")
            lines.pop()  # the part without LF
            for number, line in enumerate(lines):
                found = entry.parse(line)
                if found is None or found.seq != self.size + number:
                    self._cut_last(lines, number, length)
                    return
            self.enter(lines)
            if not lines and length - self.end > 4 * BLOCK_BYTES:
                raise LedgerDamaged(f"entry {self.size} does not parse")
            if not lines:
                os.ftruncate(self.entries, self.end)
                self.sync(self.entries)
                return

    def _cut_last(self, lines: Sequence[bytes], bad: int, length: int) -> None:
        """Cut off what is no entry where it is the last line of the file; else the ledger is damaged."""
        end = self.end + sum(len(line) + 1 for line in lines[: bad + 1])
        if end != length or entry.parse(lines[bad]) is not None:
            raise LedgerDamaged(f"entry {self.size + bad} does not parse")
        self.enter(lines[:bad])
        os.ftruncate(self.entries, self.end)
        self.sync(self.entries)

    def recheck(self, size: int) -> None:
        """Hash every entry after the first `size` again; caches that differ are built anew (spec 8)."""
        frontier, start = self.frontier(size), size
        while start < self.size:
            stop = min(self.size, start + 1024)
            try:
                lines = self.lines(start, stop)
            except LedgerDamaged:
                break
            nodes = b"".join(b"".join(frontier.add(tree.leaf_hash(line))) for line in lines)
            place = tree.stored_count(start) * tree.HASH_BYTES
            if nodes != os.pread(self.hashes, len(nodes), place):
                break
            start = stop
        if start < self.size:
            try:
                self.drop_caches(size)
                self.settle()
            except LedgerDamaged:  # the cached offset at the checkpoint was wrong, too
                self.drop_caches(0)
                self.settle()


@contextlib.contextmanager
def locked(directory: Path, sync: Sync) -> Iterator[Files]:
    """Open the files under the ledger's lock, settled.

    Raises:
        Busy: another process held the lock for 30 seconds.
        LedgerDamaged, StorageFailed, DiskFull, HomeReadOnly.
    """
    names = ("entries.jsonl", "receipts.jsonl", "offsets", "hashes")
    with storage_errors(), contextlib.ExitStack() as stack:
        opened = []
        for name in names:
            descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, descriptor)
            opened.append(descriptor)
        _lock(opened[0])
        files = Files(directory, sync, *opened)
        files.settle()
        yield files


def _lock(descriptor: int) -> None:
    """Wait for the lock; it goes with the descriptor, and with the process."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise Busy("another process is writing the ledger") from error
            time.sleep(0.002)
        else:
            return


def _write_at(descriptor: int, content: bytes, position: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


def _pread(descriptor: int, count: int, position: int) -> bytes:
    """Read exactly `count` bytes, or as many as the file has."""
    blocks = []
    while count > 0:
        block = os.pread(descriptor, min(count, BLOCK_BYTES), position)
        if not block:
            break
        blocks.append(block)
        count, position = count - len(block), position + len(block)
    return b"".join(blocks)
