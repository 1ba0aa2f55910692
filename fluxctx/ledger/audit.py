"""Everything hashed again (spec 10): what `ledger verify` does, in one pass and constant memory."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

from fluxctx.errors import IntegrityError, LedgerDamaged
from fluxctx.ledger import entry, note, receipts, tree
from fluxctx.ledger.files import OFFSET_BYTES, Files

STEP = 4096  # entries hashed between two looks at the cache


def verify_entries(files: Files, heads: Sequence[note.TreeHead]) -> None:
    """Compare the entries with each signed head; a cache that differs is built anew.

    Raises:
        LedgerDamaged: too few entries, a root that differs, a number out of turn.
    """
    for head in heads:
        if head.size > files.size:
            raise LedgerDamaged(f"the ledger has {files.size} entries, a checkpoint signed {head.size}")
    wanted = {head.size for head in heads}
    roots, suspect = _hash_all(files, wanted)
    _compare(heads, roots, suspect)
    if suspect is not None:
        files.drop_caches(0)
        files.settle()
    for start in range(max(wanted, default=0), files.size, STEP):
        for number, line in enumerate(files.lines(start, min(files.size, start + STEP)), start):
            entry.read(line, number)


def _hash_all(files: Files, wanted: Collection[int]) -> tuple[dict[int, bytes], int | None]:
    """The roots at the wanted sizes, and the first entry that the cache knows otherwise.

    The second is None where the caches agree, and -1 where they differ in other things than a leaf.
    """
    roots = {0: tree.EMPTY_ROOT}
    frontier, suspect, end = tree.Frontier(), None, 0
    for start, lines in _blocks(files):
        nodes: list[bytes] = []
        ends: list[bytes] = []
        for line in lines:
            nodes += frontier.add(tree.leaf_hash(line))
            end += len(line) + 1
            ends.append(end.to_bytes(OFFSET_BYTES, "big"))
            if frontier.size in wanted:
                roots[frontier.size] = frontier.root()
        if suspect is None:
            suspect = _first_difference(files, start, nodes, b"".join(ends))
        if suspect is None and not _turns(lines, start):
            raise LedgerDamaged(f"an entry between {start} and {start + len(lines) - 1} is out of turn")
    return roots, suspect


def _blocks(files: Files) -> Iterator[tuple[int, list[bytes]]]:
    """Every whole line of the file, in blocks, wherever the caches say that it stands."""
    start, rest, position = 0, b"", 0
    while block := os.pread(files.entries, 1 << 20, position):
        position += len(block)
        *lines, rest = (rest + block).split(b"\n")
        yield start, lines
        start += len(lines)


def _turns(lines: Sequence[bytes], start: int) -> bool:
    return all(line.endswith(b',"seq":%d}' % number) for number, line in enumerate(lines, start))


def _first_difference(files: Files, start: int, nodes: Sequence[bytes], ends: bytes) -> int | None:
    """The first leaf from `start` on that the cache knows otherwise; -1 where only the rest of it differs."""
    place = tree.stored_count(start)
    cached = os.pread(files.hashes, len(nodes) * tree.HASH_BYTES, place * tree.HASH_BYTES)
    if b"".join(nodes) == cached:
        return None if ends == os.pread(files.offsets, len(ends), start * OFFSET_BYTES) else -1
    seq = start
    while (at := tree.stored_count(seq) - place) < len(nodes):
        if nodes[at] != cached[at * tree.HASH_BYTES : (at + 1) * tree.HASH_BYTES]:
            return seq
        seq += 1
    return -1


def _compare(heads: Sequence[note.TreeHead], roots: dict[int, bytes], suspect: int | None) -> None:
    for head in sorted(heads, key=lambda head: head.size):
        if roots.get(head.size) != head.root:
            known = suspect not in (None, -1)
            where = f"entry {suspect} was changed" if known else f"at or before entry {head.size - 1}"
            raise LedgerDamaged(
                f"the ledger does not hold what a checkpoint of {head.size} entries signed: {where}",
                details={"size": head.size, "entry": suspect},
            )


def verify_contents(directory: Path, origin: str, sealer: entry.Sealer | None, size: int) -> None:
    """Compare each batch with its receipts and, with a sealer, each sealed body with its commitment."""
    with (
        (directory / "entries.jsonl").open("rb") as lines,
        (directory / "receipts.jsonl").open("rb") as batch_file,
    ):
        for seq, line in enumerate(islice(lines, size)):
            batch = b'"event":"deleted"' in line
            if not batch and sealer is None:
                continue
            one = entry.read(line.rstrip(b"\n"), seq)
            if batch and one.event == "deleted":
                receipts.check_batch(batch_file.fileno(), one)
            if sealer is not None:
                try:
                    entry.disclose(one, origin, sealer)
                except IntegrityError as error:
                    raise LedgerDamaged(f"the sealed body of entry {seq} does not open") from error
