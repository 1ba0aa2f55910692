"""`fluxctx provenance verify FILE`: for anyone, no account needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluxctx.commands import options
from fluxctx.commands.base import Session, group


def verify(
    session: Session,
    file: Annotated[str, typer.Argument(help="A picture.", show_default=False)],
    root: Annotated[
        str | None, typer.Option(help="A root certificate to trust, PEM.", metavar="FILE")
    ] = None,
) -> None:
    """Say what a picture asserts about itself: AI-made, not for training, signed by whom, watermark.

    Marks can be stripped by somebody who wants to: a picture without them proves nothing.
    """
    content = options.read_file_bytes(Path(file))
    anchors = options.read_file_bytes(Path(root)) if root else b""
    with session.runtime() as runtime:
        found = runtime.read_marks(content, anchors)
    facts = found.as_dict()
    session.console.done(
        facts, [f"{name.replace('_', ' '):<28} {plain(value)}" for name, value in facts.items()]
    )


def plain(value: object) -> str:
    """Yes, no, or that the file does not say."""
    if isinstance(value, tuple | list):
        return ", ".join(str(one) for one in value) or "none"
    return {None: "not said", True: "yes", False: "no"}.get(value, str(value))  # type: ignore[call-overload,no-any-return]


def root(session: Session) -> None:
    """Print the root certificate of this account's authority, to give to those who verify your copies."""
    with session.runtime() as runtime:
        runtime.open_account()
        authority = runtime.authority()
    text = authority.root.decode()
    session.console.done(
        {"root": text, "sha256": authority.root_sha256}, [text.rstrip(), f"sha256 {authority.root_sha256}"]
    )


app = group(
    "Marks of copies: verify a picture, print the account's root certificate.", verify=verify, root=root
)
