"""`fluxctx sweep`: what a timer runs."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxctx import inspection
from fluxctx.commands.base import Session, single
from fluxctx.console import table_size


def sweep(
    session: Session,
    install_timer: Annotated[
        bool, typer.Option("--install-timer", help="Run this by itself from now on.")
    ] = False,
    remove_timer: Annotated[bool, typer.Option("--remove-timer", help="Take the timer away again.")] = False,
) -> None:
    """Destroy what has expired; needs no passphrase.

    Exits 9 if a key slot is damaged and 10 if another process was busy with an expired item.
    """
    with session.runtime() as runtime:
        if install_timer or remove_timer:
            state = inspection.install_timer(runtime) if install_timer else inspection.remove_timer(runtime)
            session.console.done({"timer": state}, f"sweep timer: {state['detail']}")
            return
        result = runtime.sweep(force=True)
    data = {"expired": len(result.deaths), "freed_bytes": result.freed_bytes}
    data |= {"closed": result.closed, "busy": result.busy, "damaged": result.damaged}
    text = [f"{len(result.deaths)} gone for good, {table_size(result.freed_bytes)} freed"]
    if result.closed:
        text.append(
            f"{result.closed} closed: the clock jumped; a second sweep in an hour destroys their keys"
        )
    session.console.done(data, text)


app = single(sweep)
