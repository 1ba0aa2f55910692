"""`fluxctx terms show|accept`."""

from __future__ import annotations

from fluxctx.accounts.terms import current_terms
from fluxctx.commands.base import Session, group


def show(session: Session) -> None:
    """Show the acceptable-use terms in force."""
    terms = current_terms()
    session.console.done({"version": terms.version, "sha256": terms.sha256, "text": terms.text}, terms.text)


def accept(session: Session) -> None:
    """Accept the acceptable-use terms in force."""
    terms = current_terms()
    with session.runtime() as runtime:
        runtime.open_account(unlock=False)
        runtime.registry().record_terms(runtime.require_account().name, terms, now=runtime.now())
    session.console.done({"version": terms.version}, f"accepted: terms {terms.version}")


app = group("The acceptable-use terms: show them, accept them.", show=show, accept=accept)
