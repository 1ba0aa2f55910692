"""`fluxctx config show`."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxctx.commands.base import Session, group
from fluxctx.config import SETTINGS


def show(
    session: Session,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
) -> None:
    """Show the settings in force."""
    rows = [
        {
            "key": setting.key,
            "value": session.config.values[setting.key].value,
            "origin": session.config.values[setting.key].origin,
            "locked": session.config.values[setting.key].locked,
            "meaning": setting.meaning,
        }
        for setting in SETTINGS
    ]
    columns = ("key", "value", "origin", "locked") if origin else ("key", "value", "meaning")
    session.console.done({"settings": rows}, session.console.table(rows, columns))


app = group("The settings in force and where each comes from.", show=show)
