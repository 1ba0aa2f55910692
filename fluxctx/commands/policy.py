"""`fluxctx policy show|check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fluxctx.commands import options
from fluxctx.commands.base import Session, group
from fluxctx.domain import Action
from fluxctx.errors import InvalidRequest, PolicyRefused

PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8")


def check(
    session: Session,
    text: Annotated[str, typer.Argument(help="A text, a file, or `-` for stdin.", show_default=False)],
    fail_on: Annotated[str | None, typer.Option(help="Exit 3 from this verdict on: review or block.")] = None,
) -> None:
    """Say what the policy makes of a text or a picture; needs no account, keeps nothing.

    Exits 0 whatever the verdict, unless --fail-on is given.
    """
    if fail_on not in {None, "review", "block"}:
        raise InvalidRequest("--fail-on is review or block")
    path = Path(text) if text != "-" and len(text) < 4096 and "\0" not in text else None
    content = options.read_file_bytes(path) if path is not None and path.is_file() else b""
    with session.runtime() as runtime:
        if content.startswith(PICTURES):
            verdict = runtime.check_picture(content)
        else:
            words = (
                sys.stdin.buffer.read() if text == "-" else content or text.encode("utf-8", errors="replace")
            )
            verdict = runtime.policy().check_text({"prompt": words.decode("utf-8", errors="replace")})
    findings = [
        {"category": f.category, "rule": f.rule, "score": round(f.score, 4), "locked": f.locked}
        | {"span": list(f.span) if f.span else None}
        for f in verdict.findings
    ]
    policy = {"id": verdict.policy_id, "revision": verdict.policy_revision}
    data = {"action": str(verdict.action), "findings": findings, "policy": policy}
    lines = [str(verdict.action)]
    lines += [f"  {f['category']}  rule {f['rule']}  score {f['score']}  at {f['span']}" for f in findings]
    worst = [Action.REVIEW, Action.BLOCK] if fail_on == "review" else [Action.BLOCK] if fail_on else []
    error = PolicyRefused(f"the verdict is {verdict.action}", hint="the findings say why")
    session.console.done(data, lines, error=error if verdict.action in worst else None)


def show(session: Session) -> None:
    """Show the policy in force: its id, revision, profile and categories."""
    with session.runtime() as runtime:
        facts = runtime.policy().describe()
    lines = [f"policy {facts['id']} revision {facts['revision']}, profile {facts['profile']}"]
    lines += session.console.table(facts["categories"], ("category", "action", "severity", "locked"))
    session.console.done(facts, lines)


app = group("The content policy: show it, check a text or a picture against it.", show=show, check=check)
