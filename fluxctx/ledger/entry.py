"""One entry of a ledger (spec 3) and one receipt of a death (spec 4): built, written, read."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from fluxctx.domain import Death
from fluxctx.errors import LedgerDamaged
from fluxctx.ledger import canonical

SALT_BYTES = 32
LINE_BYTES = 1 << 20
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}")
HEX_64 = re.compile(r"[0-9a-f]{64}")
MEMBERS = frozenset({"at", "clear", "commit", "event", "omitted", "sealed", "seq"})


class Sealer(Protocol):
    """Authenticated encryption under the account's ledger key; the cipher is the vault's."""

    def seal(self, context: bytes, data: bytes) -> bytes:
        """Seal `data` with `context` as associated data."""

    def open(self, context: bytes, data: bytes) -> bytes:
        """Open what `seal` made; raises an IntegrityError for another context, key or content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry as it stands in the file; `line` is its canonical JSON, the leaf's data."""

    seq: int
    event: str
    at: datetime
    clear: Mapping[str, Any]
    commit: str | None
    sealed: bytes | None
    omitted: tuple[str, ...]
    line: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """What is to be entered: `clear` as it is, `sealed` committed to and sealed."""

    event: str
    at: datetime
    clear: Mapping[str, Any]
    sealed: Mapping[str, Any]


def write(new: NewEntry, seq: int, origin: str, sealer: Sealer | None, salt: bytes) -> bytes:
    """Give the entry's line without LF; without a sealer the facts' names stand in `omitted` (spec 9).

    Raises:
        ValueError: `event` or `clear` holds more than ids, rule names and numbers, or the line is too long.
    """
    check_clear(new.event, new.clear)
    value: dict[str, Any] = {
        "at": canonical.utc_text(new.at),
        "clear": new.clear,
        "event": new.event,
        "seq": seq,
    }
    if new.sealed and sealer is None:
        value["omitted"] = sorted(new.sealed)
        check_clear(new.event, {"omitted": value["omitted"]})
    elif new.sealed and sealer is not None:
        body = canonical.render({"facts": new.sealed, "salt": canonical.encode64(salt)})
        value["commit"] = commitment(new.sealed, salt)
        value["sealed"] = canonical.encode64(sealer.seal(context(origin, seq, new.event), body))
    line = canonical.render(value)
    if len(line) > LINE_BYTES:
        raise ValueError("a ledger entry is longer than 1 MiB")
    return line


def read(line: bytes, seq: int) -> Entry:
    """Read entry number `seq`; raises LedgerDamaged for anything that `write` would not have written."""
    entry = parse(line)
    if entry is None:
        raise LedgerDamaged(f"entry {seq} does not parse")
    if entry.seq != seq:
        raise LedgerDamaged(f"entry {seq} is out of turn")
    return entry


def parse(line: bytes) -> Entry | None:
    """Read an entry whatever its number; None for what is no entry."""
    try:
        value = canonical.parse(line)
        entry = _entry(value, line)
        check_clear(entry.event, {**entry.clear, "omitted": list(entry.omitted)})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return entry


def _entry(value: dict[str, Any], line: bytes) -> Entry:
    if not value.keys() <= MEMBERS or ("commit" in value) != ("sealed" in value):
        raise ValueError("members")
    if "commit" in value and not HEX_64.fullmatch(value["commit"]):
        raise ValueError("commit")
    if type(value["seq"]) is not int or not isinstance(value["clear"], dict):
        raise TypeError("seq or clear")
    return Entry(
        seq=value["seq"],
        event=value["event"],
        at=canonical.utc_time(value["at"]),
        clear=value["clear"],
        commit=value.get("commit"),
        sealed=canonical.decode64(value["sealed"]) if "sealed" in value else None,
        omitted=tuple(value.get("omitted", ())),
        line=line,
    )


def check_clear(event: str, clear: Mapping[str, Any]) -> None:
    """Refuse (ValueError) whatever could carry a sentence: the gate that keeps prompts out of `clear`."""
    if not TOKEN.fullmatch(event):
        raise ValueError("a ledger event is one token")
    for name, value in clear.items():
        if not NAME.fullmatch(name):
            raise ValueError("a name in the clear part of a ledger entry")
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, str) and not TOKEN.fullmatch(part):
                raise ValueError(
                    f"{name}: the clear part of a ledger entry holds ids, rule names and numbers only"
                )
            if not isinstance(part, str | int | None):
                raise ValueError(
                    f"{name}: the clear part of a ledger entry holds ids, rule names and numbers only"
                )


def context(origin: str, seq: int, event: str) -> bytes:
    """The associated data that binds a sealed body to its place."""
    return f"fluxctx/ledger/v1/body\n{origin}\n{seq}\n{event}".encode()


def commitment(facts: Mapping[str, Any], salt: bytes) -> str:
    """The salted commitment to the facts, in hex."""
    return hmac.new(salt, b"fluxctx/ledger/v1/commit\n" + canonical.render(facts), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """What the owner gives away to prove one entry's facts; whoever has it needs no key."""

    facts: Mapping[str, Any]
    salt: bytes


def disclose(entry: Entry, origin: str, sealer: Sealer) -> Disclosure | None:
    """Open an entry's sealed body, None where it has none; raises LedgerDamaged."""
    if entry.sealed is None or entry.commit is None:
        return None
    raw = sealer.open(context(origin, entry.seq, entry.event), entry.sealed)
    try:
        body = canonical.parse(raw)
        shown = Disclosure(facts=body["facts"], salt=canonical.decode64(body["salt"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerDamaged(f"the sealed body of entry {entry.seq} does not parse") from error
    verify_disclosure(entry, shown)
    return shown


def verify_disclosure(entry: Entry, shown: Disclosure) -> None:
    """Check that these are the facts that the entry committed to; raises LedgerDamaged."""
    if len(shown.salt) != SALT_BYTES or commitment(shown.facts, shown.salt) != entry.commit:
        raise LedgerDamaged(f"the facts are not those that entry {entry.seq} committed to")


def receipt(death: Death) -> bytes:
    """One death as canonical JSON (spec 4); a reason's spaces become hyphens."""
    reason = death.reason.replace(" ", "-")
    check_clear("deleted", {"reason": reason, "id": death.id, "freed_bytes": death.freed_bytes})
    at = canonical.utc_text(death.at)
    return canonical.render({"at": at, "freed_bytes": death.freed_bytes, "id": death.id, "reason": reason})


def read_receipt(line: bytes) -> Death:
    """Read one receipt; raises LedgerDamaged."""
    try:
        value = canonical.parse(line)
        death = Death(
            id=value["id"],
            at=canonical.utc_time(value["at"]),
            reason=value["reason"],
            freed_bytes=value["freed_bytes"],
        )
        if receipt(death) != line:
            raise ValueError("not a receipt")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LedgerDamaged("a receipt does not parse") from error
    return death


def batch_facts(
    receipts: Sequence[bytes], deaths: Sequence[Death], first: int, root: bytes
) -> dict[str, Any]:
    """The clear part of a batch entry (spec 4)."""
    freed = sum(death.freed_bytes for death in deaths)
    return {"count": len(receipts), "first": first, "freed_bytes": freed, "root": root.hex()}
