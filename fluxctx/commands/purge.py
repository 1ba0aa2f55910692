"""`fluxctx purge ID...|--all|--expired`."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxctx.commands import filters, options
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
    kind: filters.Kinds = None,
    before: filters.Before = None,
    tag: filters.Tags = None,
    model: filters.Models = None,
) -> None:
    """Delete items for good.

    The item's key is destroyed in place: from then on nobody can open it, its thumbnail or its prompt.
    Copies that were exported, snapshots and backups by other software are out of reach.
    """
    chosen = filters.parse(kind, before, tag, model)
    if sum([bool(items), all_items, expired, bool(chosen)]) != 1:
        raise UsageError(
            "say what to purge, in one way", hint="ID..., --all, --expired, or --tag and the like"
        )
    with session.runtime() as runtime:
        if expired:
            result = runtime.sweep(force=True)
            deaths = list(result.deaths)
        else:
            runtime.open_account()
            ids = (
                [runtime.resolve(reference) for reference in items]
                if items
                else list(filters.matching(runtime, chosen))
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
