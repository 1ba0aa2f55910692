"""`fluxctx doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fluxctx import inspection
from fluxctx.commands.base import Session, single


def doctor(
    session: Session,
    isolation: Annotated[bool, typer.Option("--isolation", help="Try every way out of the worker.")] = False,
) -> None:
    """Check this machine: device, disk, sandbox, timer, clock.

    --isolation runs the attempts from inside a confined worker and, as a control, from outside it.
    """
    with session.runtime() as runtime:
        if isolation:
            report = inspection.isolation()
            rows = [{"name": a.name, "refused": a.refused, "control": a.control} for a in report.attempts]
            table = session.console.table(rows, ("name", "refused", "control"))
            session.console.done({"attempts": rows, "layers": asdict(report.layers)}, table)
            return
        checks = inspection.doctor(runtime)
    rows = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]
    text = []
    for check in checks:
        text.append(f"{'ok ' if check.ok else 'BAD'} {check.name:<12} {check.detail}")
        if not check.ok and check.hint:
            text.append(f"                 hint: {check.hint}")
    session.console.done({"checks": rows}, text)


app = single(doctor)
