"""What happens to items after they are made: sweep, purge, retain, import, and the one way bytes leave.

Rooms are Protocols written here; runtime.py hands in the real ones.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from fluxctx.domain import (
    DEFAULT_RETENTION,
    Action,
    Death,
    Item,
    ItemId,
    ItemKind,
    NewItem,
    RawImage,
    Upload,
    Verdict,
)
from fluxctx.errors import (
    DiskFull,
    FluxctxError,
    OutputExists,
    OutputFailed,
    PlanForbids,
    PolicyRefused,
    UsageError,
)


class Vault(Protocol):
    """The part of the vault that lifecycle needs."""

    def get(self, item_id: ItemId, *, now: datetime) -> Item: ...
    def read(self, item_id: ItemId, part: str = "original", *, now: datetime) -> bytes: ...
    def metadata(self, item_id: ItemId, *, now: datetime) -> Mapping[str, Any]: ...
    def every(self, *, now: datetime, kinds: Sequence[ItemKind] = ()) -> Iterator[Item]: ...
    def put(self, items: Sequence[NewItem], *, now: datetime) -> list[Item]: ...
    def purge(
        self,
        ids: Sequence[ItemId],
        *,
        now: datetime,
        reason: str,
        on_deaths: Callable[[Sequence[Death]], object],
    ) -> Sequence[Death]: ...
    def retain(self, item_id: ItemId, expires_at: datetime, *, now: datetime) -> Item: ...


class Ledger(Protocol):
    """The part of the ledger that lifecycle needs."""

    def append(
        self, event: str, *, at: datetime, clear: Mapping[str, Any], sealed: Mapping[str, Any]
    ) -> int: ...
    def append_deaths(self, deaths: Sequence[Death], at: datetime) -> int | None: ...


class Media(Protocol):
    """The part of the keyless child that lifecycle needs."""

    def mark_copy(self, content: bytes, mime: str, *, fmt: Any, marks: Any) -> bytes: ...
    def inspect(self, content: bytes) -> Mapping[str, Any]: ...
    def decode(self, upload: Upload) -> RawImage: ...


# --- deletion -----------------------------------------------------------------------------------------


def purge(ids: Sequence[ItemId], vault: Vault, ledger: Ledger, *, now: datetime) -> list[Death]:
    """Destroy items for good, and the uploads that no remaining output was made from."""
    uploads = uploads_of(ids, vault, now=now)

    def note(deaths: Sequence[Death]) -> None:
        ledger.append_deaths(deaths, at=now)

    deaths = list(vault.purge(ids, now=now, reason="purged", on_deaths=note))
    if uploads:
        orphans = sorted(uploads - uploads_of([item.id for item in vault.every(now=now)], vault, now=now))
        deaths += vault.purge(
            [ItemId(orphan) for orphan in orphans], now=now, reason="purged", on_deaths=note
        )
    return deaths


def uploads_of(ids: Sequence[ItemId], vault: Vault, *, now: datetime) -> set[str]:
    """The uploads that these items were made from; expired and damaged items have no say."""
    found: set[str] = set()
    for item_id in ids:
        try:
            found |= set(vault.metadata(item_id, now=now).get("recipe", {}).get("uploads", []))
        except FluxctxError:
            continue
    return found


def retain(
    item_id: ItemId, span: timedelta, vault: Vault, ledger: Ledger, *, longest: timedelta, now: datetime
) -> Item:
    """Give an item a new end counted from now; the plan's ceiling counts from the item's making."""
    item = vault.get(item_id, now=now)
    expires_at = now + span
    if expires_at > item.created_at + longest:
        raise PlanForbids(
            f"the plan keeps items {longest.days} days at most", hint="export a copy, or ask for another plan"
        )
    changed = vault.retain(item_id, expires_at, now=now)
    for upload in uploads_of([item_id], vault, now=now):
        vault.retain(ItemId(upload), max(expires_at, vault.get(ItemId(upload), now=now).expires_at), now=now)
    ledger.append("retained", at=now, clear={"item": item_id}, sealed={"expires_at": expires_at.isoformat()})
    return changed


# --- in and out ---------------------------------------------------------------------------------------


def import_file(
    content: bytes,
    vault: Vault,
    media: Media,
    ledger: Ledger,
    *,
    tags: Mapping[str, str],
    retain: timedelta | None,
    longest: timedelta,
    check: Callable[[RawImage], Verdict],
    now: datetime,
) -> Item:
    """Seal a file of the user's; what does not decode or what the policy blocks is refused."""
    facts = media.inspect(content)
    digest = hashlib.sha256(content).hexdigest()
    verdict = check(media.decode(Upload(role="image", content=content, sha256=digest)))
    if verdict.action in (Action.REVIEW, Action.BLOCK):
        raise PolicyRefused(
            "refused by policy", hint="`fluxctx policy check FILE` says why", details={"stage": "upload"}
        )
    span = retain if retain is not None else min(DEFAULT_RETENTION, longest)
    if span > longest:
        raise PlanForbids(f"the plan keeps items {longest.days} days at most", hint="give a shorter --retain")
    new = NewItem(
        kind=ItemKind.UPLOAD,
        mime=f"image/{facts['format']}",
        expires_at=now + span,
        parts={"original": content},
        metadata={"tags": dict(tags), "sha256": digest, "role": "import", "marks": facts.get("marks") or {}},
    )
    (item,) = vault.put([new], now=now)
    ledger.append("imported", at=now, clear={"item": item.id}, sealed={"sha256": digest})
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A marked copy on its way out."""

    item_id: ItemId | None
    content: bytes
    sha256: str


def copy_out(
    content: bytes,
    mime: str,
    media: Media,
    ledger: Ledger,
    *,
    item_id: ItemId | None,
    fmt: str,
    marks: Any,
    now: datetime,
) -> Copy:
    """Make the copy that leaves: marked in memory, entered into the ledger.  The only way out of the vault."""
    marked = media.mark_copy(content, mime, fmt=fmt, marks=marks)
    digest = hashlib.sha256(marked).hexdigest()
    clear = {"item": item_id} if item_id else {}
    ledger.append("copied-out", at=now, clear=clear, sealed={"sha256": digest})
    return Copy(item_id=item_id, content=marked, sha256=digest)


def write_copy(path: Path, content: bytes, *, force: bool) -> None:
    """Write a copy for its owner alone, whole or not at all, never over an existing file without `force`.

    Raises OutputExists, DiskFull, OutputFailed.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if force:
            part.replace(path)
        else:
            os.link(part, path)  # fails where the name was taken meanwhile; rename would overwrite it
            part.unlink()
    except FileExistsError as error:
        part.unlink(missing_ok=True)
        raise OutputExists("the copy's path exists already", hint="choose another or add --force") from error
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            raise DiskFull("no space for the copy", hint="the item itself is safe in the vault") from error
        raise OutputFailed(
            "the copy cannot be written there", hint="the item itself is safe in the vault"
        ) from error


# --- memory files -------------------------------------------------------------------------------------


@contextmanager
def memory_file(run_dir: Path, content: bytes, *, suffix: str) -> Iterator[Path]:
    """A 0600 file in a tmpfs for a viewer or an editor; overwritten and removed on close.

    Raises UsageError where the system offers no memory file system.
    """
    for directory in (run_dir, Path("/dev/shm")):  # noqa: S108 -- memory, not a disk: checked below
        if directory.is_dir() and file_system(directory) in {"tmpfs", "ramfs"}:
            break
    else:
        raise UsageError("no memory file system here", hint="`fluxctx export` writes a copy where you choose")
    path = directory / f"fluxctx-{secrets.token_hex(8)}{suffix}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        yield path
    finally:
        if path.exists():
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.write(b"\0" * size)
            path.unlink()


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`; empty where /proc does not say.

    Source: proc(5), /proc/self/mountinfo: fields 3 (major:minor) and the one after the dash.
    """
    try:
        device = path.stat().st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            left, _, right = line.partition(" - ")
            if left.split()[2] == wanted:
                return right.split()[0]
    except OSError:
        return ""
    return ""
