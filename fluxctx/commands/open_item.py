"""`fluxctx open ID`: look without leaving a copy on the disk."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import Annotated

import typer

from fluxctx.commands import options
from fluxctx.commands.base import Session, single
from fluxctx.errors import UsageError


def open_item(
    session: Session,
    item: Annotated[str, typer.Argument(help="An item id, a prefix, @last.", show_default=False)],
    viewer: Annotated[
        str | None, typer.Option(help="The program to show it with.", metavar="COMMAND")
    ] = None,
    preview: options.PreviewMode = "none",
) -> None:
    """Look at an item without leaving a copy on the disk.

    The viewer gets a file in memory (tmpfs) that is removed when it closes; --preview shows it in the terminal.
    """
    with session.runtime() as runtime:
        runtime.open_account()
        item_id = runtime.resolve(item)
        if preview != "none":
            from fluxctx.commands.pictures import show_inline

            show_inline(session, runtime, runtime.vault().read(item_id, now=runtime.now()), preview)
            session.console.done({"id": item_id, "viewer": None})
            return
        command = viewer_command(viewer)
        copy = runtime.copy_item(item_id, fmt="png", metadata="minimal")
        with runtime.memory_file(copy.content, suffix=".png") as path:
            subprocess.run([*command, str(path)], check=False)
            if session.may_ask and viewer is None:
                typer.prompt("press Enter to remove it from memory", default="", show_default=False, err=True)
    session.console.done({"id": item_id, "viewer": command[0]}, [])


def viewer_command(viewer: str | None) -> list[str]:
    """The viewer that was asked for, else the desktop's own."""
    if viewer:
        return shlex.split(viewer)
    for name in ("xdg-open", "open"):
        if found := shutil.which(name):
            return [found]
    raise UsageError("no viewer here", hint="name one with --viewer, or use --preview blocks")


app = single(open_item)
