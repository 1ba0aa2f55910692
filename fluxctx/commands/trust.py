"""`fluxctx trust`: every promise, measured now."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxctx import probes
from fluxctx.commands.base import Session, single
from fluxctx.commands.discover import commands
from fluxctx.errors import PromiseNotKept

MARK = {"kept": "kept", "not kept": "NOT KEPT", "amber": "amber"}


def trust(
    session: Session,
    network: Annotated[bool, typer.Option("--network", help="Only the network promises.")] = False,
) -> None:
    """Every promise, measured now.

    Each line comes from a probe that runs while you wait.  Exits 9 if a promise is not kept.
    """
    with session.runtime() as runtime:
        flags = [
            flag
            for command in commands()
            for parameter in command["parameters"]
            for flag in parameter["flags"]
        ]
        lines = probes.trust(runtime, flags, only={"P1", "P3"} if network else None)
    rows = [
        {"id": p.id, "kept": p.state == "kept", "state": p.state, "title": p.title}
        | {"mechanism": p.mechanism, "evidence": p.evidence, "repeat": p.repeat}
        for p in lines
    ]
    text = []
    for p in lines:
        text += [
            f"{p.id:<4} {MARK[p.state]:<9} {p.title}",
            f"               {p.evidence}",
            f"               check: {p.repeat}",
        ]
    broken = [p.id for p in lines if p.state == "not kept"]
    error = PromiseNotKept(f"not kept here: {', '.join(broken)}", hint="the lines say what was seen")
    session.console.done({"promises": rows}, text, error=error if broken else None)


app = single(trust)
