"""The Merkle tree of RFC 9162 section 2.1, pure: hashes in, hashes out.

Complete subtrees are stored in the order in which they become complete (spec 7), so that a node's place is
known from its level and number; `read(place)` is handed in and returns the 32 bytes stored there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fluxctx.errors import LedgerDamaged

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Read = Callable[[int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """RFC 9162 2.1.1: the hash of one entry."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 9162 2.1.1: the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def stored_place(level: int, number: int) -> int:
    """Where node `number` of `level` (0 = leaves) is stored.  Source: x/mod/sumdb/tlog StoredHashIndex."""
    leaf = ((number + 1) << level) - 1  # the leaf that completes this node
    return stored_count(leaf) + level


def stored_count(size: int) -> int:
    """How many hashes a tree of `size` leaves stores: 2 * size - popcount(size)."""
    return 2 * size - size.bit_count()


@dataclass(slots=True)
class Frontier:
    """The growing edge of a tree: the roots of its complete subtrees, largest first."""

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    def add(self, leaf: bytes) -> list[bytes]:
        """Append one leaf hash; returns the hashes to store, the leaf first."""
        complete = [leaf]
        number = self.size
        while number & 1:
            leaf = node_hash(self.peaks.pop(), leaf)
            complete.append(leaf)
            number >>= 1
        self.peaks.append(leaf)
        self.size += 1
        return complete

    def root(self) -> bytes:
        """The root of the tree so far."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def frontier_at(size: int, read: Read) -> Frontier:
    """Load the growing edge of the first `size` leaves: O(log size) reads."""
    peaks = []
    start = 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            peaks.append(read(stored_place(level, start >> level)))
            start += 1 << level
    return Frontier(size=size, peaks=peaks)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over the data of a few leaves that all fit into memory."""
    frontier = Frontier()
    for data in leaves:
        frontier.add(leaf_hash(data))
    return frontier.root()


def inclusion_path(index: int, size: int, read: Read) -> list[bytes]:
    """RFC 9162 2.1.3.1: from the leaf's sibling up to the root's child; IndexError outside the tree."""
    if not 0 <= index < size:
        raise IndexError("no such leaf in this tree")
    return _path(index, 0, size, read)


def _path(index: int, start: int, end: int, read: Read) -> list[bytes]:
    if end - start == 1:
        return []
    split = start + _split(end - start)
    if index < split:
        return [*_path(index, start, split, read), _subtree(split, end, read)]
    return [*_path(index, split, end, read), _subtree(start, split, read)]


def consistency_path(old: int, new: int, read: Read) -> list[bytes]:
    """RFC 9162 2.1.4.1: that the first `old` leaves of `new` are unchanged; IndexError outside the tree."""
    if not 0 <= old <= new:
        raise IndexError("no such older tree")
    if old in (0, new):
        return []
    return _subproof(old, 0, new, read, whole=True)


def _subproof(old: int, start: int, end: int, read: Read, *, whole: bool) -> list[bytes]:
    if old == end - start:
        return [] if whole else [_subtree(start, end, read)]
    split = _split(end - start)
    if old <= split:
        return [*_subproof(old, start, start + split, read, whole=whole), _subtree(start + split, end, read)]
    left = _subtree(start, start + split, read)
    return [*_subproof(old - split, start + split, end, read, whole=False), left]


def _split(size: int) -> int:
    """The largest power of two below `size`, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def _subtree(start: int, end: int, read: Read) -> bytes:
    """The root over leaves start..end-1; start is a multiple of a power of two not below end - start."""
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return read(stored_place(level, start >> level))
    split = start + _split(size)
    return node_hash(_subtree(start, split, read), _subtree(split, end, read))


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 2.1.3.2; raises LedgerDamaged where the proof does not lead from the leaf to the root."""
    if not 0 <= index < size:
        raise LedgerDamaged("the proof is for an entry outside the tree")
    node = leaf
    for sibling, is_left in _climb(index, size - 1, path):
        node = node_hash(sibling, node) if is_left else node_hash(node, sibling)
    if node != root:
        raise LedgerDamaged("the inclusion proof does not lead to the checkpoint's root")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """RFC 9162 2.1.4.2; raises LedgerDamaged where the newer tree does not hold the older one unchanged."""
    if old > new:
        raise LedgerDamaged("the ledger is shorter than the older checkpoint")
    if old in (0, new):
        if path or old_root != (EMPTY_ROOT if old == 0 else new_root):
            raise LedgerDamaged("the ledger is not consistent with the older checkpoint")
        return
    first, *rest = (list(path) if old & (old - 1) else [old_root, *path]) or [b""]
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old_node = new_node = first
    for sibling, is_left in _climb(number, last, rest):
        if is_left:
            old_node, new_node = node_hash(sibling, old_node), node_hash(sibling, new_node)
        else:
            new_node = node_hash(new_node, sibling)
    if old_node != old_root or new_node != new_root:
        raise LedgerDamaged("the ledger is not consistent with the older checkpoint")


def _climb(number: int, last: int, path: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each sibling up to the root, and whether it stands on the left (RFC 9162 2.1.3.2, steps 4 to 7)."""
    for sibling in path:
        if last == 0:
            raise LedgerDamaged("the proof is too long")
        is_left = bool(number & 1) or number == last
        yield sibling, is_left
        while is_left and not number & 1 and number:
            number, last = number >> 1, last >> 1
        number, last = number >> 1, last >> 1
    if last:
        raise LedgerDamaged("the proof is too short")
