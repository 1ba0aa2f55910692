"""`fluxctx purge ID...|--all|--expired`."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxctx.commands import options
from fluxctx.commands.base import Session, single
from fluxctx.commands.report import SHORT_ID
from fluxctx.console import table_size
from fluxctx.errors import Interrupted, UsageError


def purge(
    session: Session,
    items: options.Ids = None,
    all_items: Annotated[bool, typer.Option("--all", help="Everything in the vault.")] = False,
    expired: Annotated[
        bool, typer.Option("--expired", help="What has expired; needs no passphrase.")
    ] = False,
) -> None:
    """Delete items for good.

    The item's key is destroyed in place: from then on nobody can open it, its thumbnail or its prompt.
    Copies that were exported, snapshots and backups by other software are out of reach.
    """
    if sum([bool(items), all_items, expired]) != 1:
        raise UsageError("say what to purge", hint="fluxctx purge ID..., --all or --expired")
    with session.runtime() as runtime:
        if expired:
            result = runtime.sweep(force=True)
            deaths = list(result.deaths)
        else:
            runtime.open_account()
            now = runtime.now()
            ids = (
                [i.id for i in runtime.vault().every(now=now)]
                if all_items
                else [runtime.resolve(i) for i in items or []]
            )
            if ids and not session.confirm(f"delete {len(ids)} items for good?"):
                raise Interrupted("nothing was deleted", hint="answer y, or add --yes")
            deaths = runtime.purge(ids)
    freed = sum(death.freed_bytes for death in deaths)
    rows = [{"id": death.id, "reason": death.reason} for death in deaths]
    text = [f"gone for good: {(death.id or 'unknown')[:SHORT_ID]}" for death in deaths]
    session.console.done(
        {"purged": rows, "freed_bytes": freed}, [*text, f"{len(rows)} purged, {table_size(freed)} freed"]
    )


app = single(purge)
