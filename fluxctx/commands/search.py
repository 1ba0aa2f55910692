"""`fluxctx search TEXT`."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxctx.commands.base import Session, single
from fluxctx.commands.list_items import lines, row


def search(
    session: Session,
    text: Annotated[str, typer.Argument(help="Words of the prompt or the tags.", show_default=False)],
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many rows.")] = 50,
) -> None:
    """Find items whose prompt or tags hold these words.

    There is no word index on the disk that could betray a deleted prompt: each recipe is unsealed and read.
    """
    with session.runtime() as runtime:
        runtime.open_account()
        now = runtime.now()
        items = runtime.vault().search(text.split(), now=now, limit=limit)
        rows = [row(item, runtime.tags_of(item.id)) for item in items]
    session.console.done({"items": rows, "next": None}, lines(session, list(items), now, None))


app = single(search)
