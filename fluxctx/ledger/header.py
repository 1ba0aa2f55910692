"""ledger.json (spec 7): what a ledger is called and who signs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fluxctx.errors import LedgerDamaged, VaultNewer
from fluxctx.ledger import canonical, note
from fluxctx.ledger.files import Sync, write_private

FORMAT = "fluxctx.ledger/1"


def write(directory: Path, origin: str, keys: Sequence[note.VerifierKey], sync: Sync) -> None:
    """Write ledger.json (spec 7)."""
    value = {"format": FORMAT, "keys": [str(key) for key in keys], "origin": origin}
    write_private(directory / "ledger.json", canonical.render(value) + b"\n", sync)


def read(directory: Path) -> tuple[str, list[note.VerifierKey]]:
    """Origin and keys; raises FileNotFoundError, LedgerDamaged, VaultNewer."""
    raw = (directory / "ledger.json").read_bytes()
    try:
        value = json.loads(raw)
        origin, keys, written = value["origin"], value["keys"], value["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerDamaged("the ledger's header does not parse") from error
    if written != FORMAT:
        raise VaultNewer(
            "the ledger was written by a newer version", hint="update fluxctx; nothing was changed"
        )
    if origin != f"fluxctx/ledger/{directory.name}":
        raise LedgerDamaged("the ledger's header is of another ledger")
    return origin, [note.parse_key(text) for text in keys]
