"""The ledger of one account: append, sign, prove, verify (spec 7 to 10)."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from fluxctx.domain import Death, ItemId
from fluxctx.errors import LedgerDamaged, NotFound, VaultLocked
from fluxctx.ledger import audit, canonical, entry, header, note, receipts, tree
from fluxctx.ledger.entry import Disclosure, Entry, NewEntry
from fluxctx.ledger.files import Files, Sync, locked, storage_errors, sync_directory, write_private
from fluxctx.ledger.receipts import Reconciled

IDS_AN_ENTRY = 10_000


class Keys(entry.Sealer, Protocol):
    """The account's ledger keys while its vault is unlocked; no cipher lives in this room."""

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 key that checkpoints and certificates are verified with."""

    def sign(self, message: bytes) -> bytes:
        """Give the 64-byte Ed25519 signature of `message`."""

    def digest(self, purpose: bytes, data: bytes) -> bytes:
        """Give HMAC-SHA256 of `data` under an account key of its own for `purpose`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a ledger stands: all its entries, and how many of them the newest checkpoint covers."""

    origin: str
    size: int
    root: bytes
    signed_size: int
    checkpoint: str | None
    keys: tuple[note.VerifierKey, ...]  # oldest first


class Ledger:
    """One account's ledger, open in a process; every call takes the files' lock for as long as it needs."""

    def __init__(
        self,
        directory: Path,
        origin: str,
        keys: Keys | None,
        verify_bytes: note.Verify,
        *,
        sync: Sync,
        random: Callable[[int], bytes],
    ) -> None:
        self.directory = directory
        self.origin = origin
        self._keys = keys
        self._verify_bytes = verify_bytes
        self._sync = sync
        self._random = random

    # --- writing -----------------------------------------------------------------------------------

    def append(self, event: str, *, at: datetime, clear: Mapping[str, Any], sealed: Mapping[str, Any]) -> int:
        """Add one entry, durably; returns its number.

        Raises:
            ValueError: `event` or `clear` would hold more than ids, rule names and numbers.
            LedgerDamaged, Busy, DiskFull, HomeReadOnly, StorageFailed: nothing was written.
        """
        return self.append_all([NewEntry(event=event, at=at, clear=clear, sealed=sealed)])

    def append_all(self, news: Sequence[NewEntry]) -> int:
        """Add several entries with one fsync; returns the number of the first."""
        with locked(self.directory, self._sync) as files:
            return self._append(files, news)

    def append_deaths(self, deaths: Sequence[Death], at: datetime) -> int | None:
        """Enter a whole sweep or purge as one entry that commits to a receipt each (spec 4).

        Ids whose death stands among the last receipts already are left out, so that a sweep which a crash
        interrupted may be told again; returns None where nothing is left to say.
        """
        with locked(self.directory, self._sync) as files:
            fresh = receipts.unknown(files, deaths)
            return self._append_deaths(files, fresh, at) if fresh else None

    def reconcile(self, live: Collection[ItemId], dead: Sequence[Death], at: datetime) -> Reconciled:
        """Name what a crash between vault and ledger left, and enter what is missing (spec 8).

        Args:
            live: Every item of the vault that lives.
            dead: Every dead cell that the vault still holds.
            at: Now.

        Returns:
            What was found; `revived` items are the caller's to purge.  Entries are written for the rest.
        """
        with locked(self.directory, self._sync) as files:
            found = receipts.plan_reconcile(files, live, dead)
            for start in range(0, len(found.recovered), IDS_AN_ENTRY):
                clear = {"items": list(found.recovered[start : start + IDS_AN_ENTRY])}
                self._append(files, [NewEntry(event="recovered", at=at, clear=clear, sealed={})])
            missing = set(found.buried)
            first = {death.id: death for death in reversed(dead) if death.id in missing}
            lost = [Death(id=one, at=at, reason="unaccounted") for one in found.unaccounted]
            if first or lost:
                self._append_deaths(files, [*first.values(), *lost], at)
        return found

    def _append(self, files: Files, news: Sequence[NewEntry]) -> int:
        first = files.size
        sealer, salt = self._keys, self._random
        files.append(
            [
                entry.write(new, first + number, self.origin, sealer, salt(entry.SALT_BYTES))
                for number, new in enumerate(news)
            ]
        )
        return first

    def _append_deaths(self, files: Files, deaths: Sequence[Death], at: datetime) -> int:
        lines = [entry.receipt(death) for death in deaths]
        first = files.append_receipts(lines)
        clear = entry.batch_facts(lines, deaths, first, tree.root_of(lines))
        return self._append(files, [NewEntry(event="deleted", at=at, clear=clear, sealed={})])

    def checkpoint(self) -> str:
        """Sign all entries so far, those of locked runs included; returns the note (spec 5).

        Raises:
            VaultLocked: the ledger was opened without keys.
        """
        key = self._own_key()
        with locked(self.directory, self._sync) as files:
            newest = self._newest(files)
            frontier = files.frontier()
            if newest is not None and newest[0].size == files.size and newest[2][-1] == key:
                return newest[1]
            files.sync_caches()
            head = note.TreeHead(origin=self.origin, size=frontier.size, root=frontier.root())
            signed = note.sign(str(head), [(key, self._unlocked().sign)])
            write_private(self.directory / "checkpoint", signed.encode(), self._sync)
        return signed

    def rotate(self, new: Keys, at: datetime) -> str:
        """Hand the ledger over to a new signing key; both sign its first checkpoint (spec 5)."""
        old_key, old = self._own_key(), self._unlocked()
        key = note.VerifierKey(name=self.origin, public_key=new.public_key)
        with locked(self.directory, self._sync) as files:
            clear = {"key": new.public_key.hex(), "previous": old.public_key.hex()}
            self._append(files, [NewEntry(event="ledger-key", at=at, clear=clear, sealed={})])
            files.sync_caches()
            head = note.TreeHead(origin=self.origin, size=files.size, root=files.frontier().root())
            signed = note.sign(str(head), [(old_key, old.sign), (key, new.sign)])
            header.write(self.directory, self.origin, [*self._known_keys(), key], self._sync)
            write_private(self.directory / "checkpoint", signed.encode(), self._sync)
            self._keys = new
        return signed

    # --- reading -----------------------------------------------------------------------------------

    def entries(self, after: int = -1, limit: int = 100) -> list[Entry]:
        """Up to `limit` entries with a number above `after`, in order."""
        with locked(self.directory, self._sync) as files:
            first = max(after + 1, 0)
            last = min(files.size, first + limit)
            lines = files.lines(first, last) if first < last else []
        return [entry.read(line, first + number) for number, line in enumerate(lines)]

    def disclose(self, seq: int) -> Disclosure | None:
        """The facts and the salt of one entry, to read them or to show them to somebody (spec 3)."""
        return entry.disclose(self._entry(seq), self.origin, self._unlocked())

    def keyed_digest(self, purpose: str, data: bytes) -> str:
        """A digest that only this account can recognise, in hex; unlinkable once its key is gone."""
        return self._unlocked().digest(purpose.encode(), data).hex()

    def head(self) -> Head:
        """Where the ledger stands now."""
        with locked(self.directory, self._sync) as files:
            newest = self._newest(files)
            return Head(
                origin=self.origin,
                size=files.size,
                root=files.frontier().root(),
                signed_size=newest[0].size if newest else 0,
                checkpoint=newest[1] if newest else None,
                keys=tuple(self._known_keys()),
            )

    def export_lines(self, *, opened: bool = False) -> Iterator[str]:
        """Every entry as one JSON line; with `opened`, its facts as well (own export, SIEM stream)."""
        after = -1
        while page := self.entries(after, 1000):
            for one in page:
                shown = entry.disclose(one, self.origin, self._unlocked()) if opened else None
                extra = {"facts": shown.facts} if shown else {}
                yield canonical.render({**json.loads(one.line), **extra}).decode()
            after = page[-1].seq

    # --- proving -----------------------------------------------------------------------------------

    def inclusion_proof(self, seq: int) -> note.Proof:
        """That entry `seq` stands under the newest checkpoint.

        Raises:
            NotFound: no such entry, or no checkpoint covers it yet.
        """
        with locked(self.directory, self._sync) as files:
            newest = self._newest(files)
            if newest is None or not 0 <= seq < newest[0].size:
                raise NotFound(
                    "no signed entry has this number", hint="unlock the vault: that signs what is not yet"
                )
            head, checkpoint = newest[0], newest[1]
            try:
                path = _proved(files, seq, head)
            except LedgerDamaged:
                audit.verify_entries(files, [head])  # wrong caches, or this raises
                path = _proved(files, seq, head)
        return note.Proof(index=seq, path=path, checkpoint=checkpoint)

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        """That the first `old` entries are unchanged among the first `new`; NotFound outside the ledger."""
        with locked(self.directory, self._sync) as files:
            if not 0 <= old <= new <= files.size:
                raise NotFound("the ledger never had this size")
            return tree.consistency_path(old, new, files.read_hash)

    def receipts(self, seq: int) -> list[bytes]:
        """The receipts, as written, of the batch entry `seq`; raises NotFound, LedgerDamaged."""
        one = self._entry(seq)
        if one.event != "deleted":
            raise NotFound("this entry is no deletion")
        with locked(self.directory, self._sync) as files:
            return receipts.check_batch(files.receipts, one)

    def verify(self, older_checkpoint: str | None = None, *, bodies: bool = False) -> None:
        """Hash everything again and compare it with every checkpoint at hand; repairs the caches.

        Args:
            older_checkpoint: One that somebody kept outside: only it shows that the end was not cut off.
            bodies: Open every sealed body too, and compare it with its commitment (needs the keys).

        Raises:
            LedgerDamaged: says which entry, where that can be known.
            VaultLocked: `bodies` without keys.
        """
        with locked(self.directory, self._sync) as files:
            newest = self._newest(files)
            heads = [newest[0]] if newest else []
            if older_checkpoint is not None:
                heads.append(self._head_of(older_checkpoint)[0])
            audit.verify_entries(files, heads)
        opener = self._unlocked() if bodies else None
        audit.verify_contents(self.directory, self.origin, opener, files.size)

    def recheck(self) -> None:
        """What opening does: the caches against the checkpoint, then every entry after it (spec 8)."""
        with locked(self.directory, self._sync) as files:
            newest = self._newest(files)
            if newest is not None:
                head = newest[0]
                if files.size < head.size or files.frontier(head.size).root() != head.root:
                    audit.verify_entries(files, [head])
            files.recheck(newest[0].size if newest else 0)

    # --- the rest ----------------------------------------------------------------------------------

    def _entry(self, seq: int) -> Entry:
        found = self.entries(seq - 1, 1) if seq >= 0 else []
        if not found:
            raise NotFound("no entry has this number")
        return found[0]

    def _unlocked(self) -> Keys:
        if self._keys is None:
            raise VaultLocked("the ledger's keys are in the vault", hint="unlock the vault first")
        return self._keys

    def _own_key(self) -> note.VerifierKey:
        return note.VerifierKey(name=self.origin, public_key=self._unlocked().public_key)

    def _known_keys(self) -> list[note.VerifierKey]:
        return header.read(self.directory)[1]

    def _newest(self, files: Files) -> tuple[note.TreeHead, str, list[note.VerifierKey]] | None:
        """The checkpoint on disk, verified; None before the first one."""
        try:
            text = (self.directory / "checkpoint").read_text("utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise LedgerDamaged("the checkpoint does not parse") from error
        head, signers = self._head_of(text)
        return head, text, signers

    def _head_of(self, checkpoint: str) -> tuple[note.TreeHead, list[note.VerifierKey]]:
        text, signers = note.verify(checkpoint, self._known_keys(), self._verify_bytes)
        head = note.parse_head(text)
        if head.origin != self.origin:
            raise LedgerDamaged("the checkpoint is of another ledger")
        return head, signers


def _proved(files: Files, seq: int, head: note.TreeHead) -> tuple[bytes, ...]:
    """An inclusion path that has been followed from the entry's line to the signed root."""
    (line,) = files.lines(seq, seq + 1)
    path = tree.inclusion_path(seq, head.size, files.read_hash)
    tree.verify_inclusion(tree.leaf_hash(line), seq, head.size, path, head.root)
    return tuple(path)


def open_ledger(
    directory: Path,
    keys: Keys | None,
    *,
    verify: note.Verify,
    sync: Sync = os.fsync,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Ledger:
    """Open the ledger in `directory`, whose name is the ledger's id; made if it is not there.

    Args:
        directory: `<data>/ledgers/<vault id>`.
        keys: The account's, or None for a locked sweep or an ephemeral run (spec 9).
        verify: Ed25519 verification.

    Raises:
        LedgerDamaged: it does not hold what its checkpoint signed, or is signed by another key.
        VaultNewer: a newer version wrote it.
    """
    with storage_errors():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(directory, sync):
        try:
            origin, known = header.read(directory)
            fresh = False
        except FileNotFoundError:
            origin, known, fresh = f"fluxctx/ledger/{directory.name}", [], True
        if keys is not None:
            own = note.VerifierKey(name=origin, public_key=keys.public_key)
            if known and own != known[-1]:
                raise LedgerDamaged(
                    "the ledger is signed by another key", hint="each vault has a ledger of its own"
                )
            fresh, known = fresh or not known, [*known, *([] if known else [own])]
        if fresh:
            header.write(directory, origin, known, sync)
            sync_directory(directory.parent, sync)
    ledger = Ledger(directory, origin, keys, verify, sync=sync, random=random)
    ledger.recheck()
    return ledger
