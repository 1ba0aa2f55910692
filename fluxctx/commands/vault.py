"""`fluxctx vault passwd|recovery|keyfile|slots|remove|verify|stats`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fluxctx import custody
from fluxctx.commands.base import Session, group
from fluxctx.commands.init import show_recovery
from fluxctx.errors import IntegrityError, OutputExists, QuestionNeedsTerminal


def passwd(session: Session) -> None:
    """Change the passphrase: the new slot is tried before the old one is overwritten.

    An earlier copy of the keys file still opens with the old passphrase.  The new one is asked for on a terminal, or
    comes from FLUXCTX_NEW_PASSPHRASE_FILE.
    """
    with session.runtime() as runtime:
        runtime.open_account()
        removed = custody.change_passphrase(runtime)
    session.console.done({"changed": True, "removed_slots": removed}, ["the passphrase is changed"])


def recovery(session: Session) -> None:
    """Make a new 24-word recovery phrase; an older one stops working.  Needs a terminal: it is shown once."""
    if not session.may_ask:
        raise QuestionNeedsTerminal("a recovery phrase is only shown on a terminal", hint="run it on one")
    with session.runtime() as runtime:
        runtime.open_account()
        words = custody.new_recovery_phrase(runtime)
    show_recovery(session, words)
    session.console.done({"recovery_phrase_shown": True}, ["the new recovery phrase is in force"])


def keyfile(
    session: Session, path: Annotated[Path, typer.Argument(help="Where to write the new key file.")]
) -> None:
    """Write a key file (32 random bytes, mode 0600) that opens the vault without a passphrase."""
    if path.exists():
        raise OutputExists("the key file's path exists", hint="name a new one")
    with session.runtime() as runtime:
        runtime.open_account()
        content = os.urandom(32)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        slot = custody.add_key_file(runtime, content)
    session.console.done({"slot": slot}, ["the key file opens the vault; keep it where only you can read it"])


def slots(session: Session) -> None:
    """List what opens the vault; needs no passphrase."""
    with session.runtime() as runtime:
        runtime.open_account(unlock=False)
        rows = custody.key_slots(runtime)
    session.console.done({"slots": rows}, session.console.table(rows, ("slot", "kind", "created_at")))


def remove(
    session: Session, slot: Annotated[int, typer.Argument(help="The slot's number in `vault slots`.")]
) -> None:
    """Overwrite one key slot; the last one that opens the vault stays."""
    with session.runtime() as runtime:
        runtime.open_account()
        custody.remove_key_slot(runtime, slot)
    session.console.done({"removed": slot}, [f"slot {slot} is overwritten"])


def verify(session: Session) -> None:
    """Read every item and check every byte against its key; changes nothing.  Exits 9 on damage."""
    with session.runtime() as runtime:
        runtime.open_account()
        checked, faults = custody.verify_vault(runtime)
    data = {"checked": checked, "faults": faults}
    lines = [
        f"{checked} items checked, {len(faults)} faults",
        *(f"  {f['item'] or '-'}  {f['fault']}" for f in faults),
    ]
    error = IntegrityError(
        "the vault is damaged", hint="restore a backup, or purge the items named", details=data
    )
    session.console.done(data, lines, error=error if faults else None)


def stats(session: Session) -> None:
    """Count items and bytes, by kind."""
    with session.runtime() as runtime:
        runtime.open_account()
        data = custody.vault_stats(runtime)
    lines = [f"{data['items']} items, {data['bytes']} bytes, {data['cells']} cells in the keys file"]
    session.console.done(data, lines)


app = group(
    "The vault: passphrase, recovery phrase, key file, check.",
    passwd=passwd,
    recovery=recovery,
    keyfile=keyfile,
    slots=slots,
    remove=remove,
    verify=verify,
    stats=stats,
)
