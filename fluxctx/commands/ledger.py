"""`fluxctx ledger show|verify|export`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fluxctx import inspection
from fluxctx.commands.base import Session, group


def show(
    session: Session,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=10000, help="How many entries, newest last.")
    ] = 20,
) -> None:
    """Show the newest entries: times, events and random ids."""
    with session.runtime() as runtime:
        runtime.open_account()
        rows = inspection.ledger_entries(runtime, limit)
    text = [
        f"{r['seq']:>6}  {r['at']}  {r['event']:<20} {json.dumps(r['clear'], ensure_ascii=False)}"
        for r in rows
    ]
    session.console.done({"entries": rows}, text)


def verify(
    session: Session,
    checkpoint: Annotated[
        str | None, typer.Option(help="An older checkpoint's file.", metavar="FILE")
    ] = None,
) -> None:
    """Recompute the whole tree and compare; with an older checkpoint also that nothing was rewritten since.

    Exits 9 if it does not verify.
    """
    with session.runtime() as runtime:
        runtime.open_account()
        facts = inspection.verify_ledger(runtime, checkpoint)
    session.console.done(facts, [f"{facts['entries']} entries verify", "", facts["checkpoint"].rstrip()])


def export(session: Session) -> None:
    """Print every entry as JSON lines, for an archive or a SIEM; no prompt, file name or pixel is in it."""
    with session.runtime() as runtime:
        runtime.open_account()
        rows = inspection.ledger_entries(runtime, None)
    session.console.done({"entries": rows}, [json.dumps(r, ensure_ascii=False) for r in rows])


app = group(
    "The account's tamper-evident record: show, verify, export.", show=show, verify=verify, export=export
)
