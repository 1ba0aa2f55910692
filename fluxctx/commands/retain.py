"""`fluxctx retain ID --for 7d`."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxctx.commands.base import Session, single
from fluxctx.commands.list_items import row
from fluxctx.commands.report import SHORT_ID
from fluxctx.config import parse_duration


def retain(
    session: Session,
    item: Annotated[str, typer.Argument(help="An item id, a prefix, @last.", show_default=False)],
    span: Annotated[str, typer.Option("--for", help="How long from now: 12h, 7d, 4w.", show_default=False)],
) -> None:
    """Give an item a new end, within the plan's limit."""
    with session.runtime() as runtime:
        runtime.open_account()
        changed = runtime.retain(runtime.resolve(item), parse_duration(span))
        tags = runtime.tags_of(changed.id)
    session.console.done(
        {"item": row(changed, tags)},
        f"{changed.id[:SHORT_ID]} is deleted {changed.expires_at:%Y-%m-%d %H:%M} UTC",
    )


app = single(retain)
