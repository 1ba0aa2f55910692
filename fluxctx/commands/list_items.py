"""`fluxctx list`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from fluxctx.commands import filters
from fluxctx.commands.base import Session, single
from fluxctx.commands.report import SHORT_ID
from fluxctx.config import parse_duration
from fluxctx.console import table_size
from fluxctx.domain import Item, utc


def list_items(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many rows.")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on from the `next` of an earlier page.")] = None,
    expiring: Annotated[
        str | None, typer.Option(help="What dies within this time.", metavar="DURATION")
    ] = None,
    kind: filters.Kinds = None,
    before: filters.Before = None,
    tag: filters.Tags = None,
    model: filters.Models = None,
) -> None:
    """List what the vault holds, newest first."""
    wanted = filters.parse(kind, before, tag, model)
    with session.runtime() as runtime:
        runtime.open_account()
        now = runtime.now()
        end = now + parse_duration(expiring) if expiring else None
        page = filters.page(runtime, wanted, limit=limit, after=after, expiring_before=end)
    items = [item for item, _ in page.items]
    rows = [row(item, tags) for item, tags in page.items]
    session.console.done({"items": rows, "next": page.next}, lines(session, items, now, page.next))


def row(item: Item, tags: dict[str, str]) -> dict[str, Any]:
    """One entry of `items`."""
    return {
        "id": item.id,
        "kind": str(item.kind),
        "created_at": utc(item.created_at),
        "expires_at": utc(item.expires_at),
        "size_bytes": item.size_bytes,
        "mime": item.mime,
        "tags": tags,
    }


def lines(session: Session, items: list[Item], now: datetime, following: str | None) -> list[str]:
    """The table that a person reads."""
    if not items:
        return ["nothing here yet"] if session.console.color else []
    rows = [
        {
            "id": item.id[:SHORT_ID],
            "kind": str(item.kind),
            "made": item.created_at.strftime("%Y-%m-%d %H:%M"),
            "time_left": time_left(item.expires_at, now),
            "size": table_size(item.size_bytes),
        }
        for item in items
    ]
    table = session.console.table(rows, ("id", "kind", "made", "time_left", "size"))
    return [*table, f"more: fluxctx list --after {following}"] if following else table


def time_left(end: datetime, now: datetime) -> str:
    """How long an item still lives, in its largest unit."""
    seconds = max(0, int((end - now).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


app = single(list_items)
