"""`fluxctx import FILE...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluxctx.commands import options
from fluxctx.commands.base import Session, single
from fluxctx.commands.list_items import row
from fluxctx.commands.report import SHORT_ID


def import_files(
    session: Session,
    files: Annotated[list[str], typer.Argument(help="Pictures of yours.", show_default=False)],
    tag: options.Tags = None,
    retain: options.Retain = None,
) -> None:
    """Seal files of yours into the vault.

    The file itself stays where it is; delete it yourself if the vault is to hold the only copy.
    """
    contents = [options.read_file_bytes(Path(name)) for name in files]
    with session.runtime() as runtime:
        runtime.open_account()
        span = options.read_retention(retain, session)
        items = [
            runtime.import_file(content, tags=options.read_tags(tag), retain=span) for content in contents
        ]
    rows = [row(item, options.read_tags(tag)) for item in items]
    text = [f"sealed {item.id[:SHORT_ID]} (deleted {item.expires_at:%Y-%m-%d})" for item in items]
    session.console.done({"items": rows, "next": None}, text)


app = single(import_files)
