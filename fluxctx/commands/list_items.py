"""`fluxctx list`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from fluxctx.commands.base import Session, single
from fluxctx.commands.report import SHORT_ID
from fluxctx.config import parse_duration
from fluxctx.console import table_size
from fluxctx.domain import Item, ItemKind, utc
from fluxctx.errors import InvalidRequest


def list_items(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many rows.")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on from the `next` of an earlier page.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="image, video or upload; repeatable.")] = None,
    before: Annotated[str | None, typer.Option(help="Made before this date.", metavar="YYYY-MM-DD")] = None,
    expiring: Annotated[
        str | None, typer.Option(help="What dies within this time.", metavar="DURATION")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only with this tag; repeatable.", metavar="KEY[=VALUE]")
    ] = None,
) -> None:
    """List what the vault holds, newest first."""
    with session.runtime() as runtime:
        runtime.open_account()
        now = runtime.now()
        page = runtime.vault().list(
            now=now,
            limit=limit,
            after=after,
            kinds=[kind_of(word) for word in kind or []],
            before=date_of(before) if before else None,
            expiring_before=now + parse_duration(expiring) if expiring else None,
        )
        tags = {item.id: runtime.tags_of(item.id) for item in page.items}
    wanted = [word.partition("=") for word in tag or []]
    items = [i for i in page.items if all(k in tags[i.id] and v in ("", tags[i.id][k]) for k, _, v in wanted)]
    rows = [row(item, tags[item.id]) for item in items]
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


def kind_of(word: str) -> ItemKind:
    try:
        return ItemKind(word)
    except ValueError:
        raise InvalidRequest("unknown kind", hint="image, video or upload") from None


def date_of(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidRequest("not a date", hint="write YYYY-MM-DD") from None


app = single(list_items)
