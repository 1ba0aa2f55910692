"""`fluxctx init`: the first account on this machine, or one an operator invited."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxctx import custody, inspection, wiring
from fluxctx.accounts.terms import current_terms
from fluxctx.commands.base import Session, single
from fluxctx.errors import InvalidRequest, QuestionNeedsTerminal, TermsNotAccepted


def init(
    session: Session,
    invite: Annotated[
        str | None, typer.Option(help="The code that an operator gave you.", metavar="CODE")
    ] = None,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="Accept the acceptable-use terms.")
    ] = False,
    no_timer: Annotated[bool, typer.Option("--no-timer", help="Install no sweep timer.")] = False,
) -> None:
    """Make the first account, or one an operator invited: passphrase, terms, sweep timer.

    On a terminal it asks; a script gives the passphrase by file, descriptor or variable and --accept-terms.

    Exits 3 if the terms are not accepted, 4 without a passphrase.
    """
    with session.runtime(accept_terms=accept_terms) as runtime:
        if invite is None and runtime.registry().accounts(runtime.now()):
            raise InvalidRequest(
                "there is an account here already", hint="an operator invites others; see --invite"
            )
        if not runtime.accepts_terms:
            ask_terms(session, current_terms().text)
            runtime.accepts_terms = True
        created = runtime.create_account(invite=invite)
        skipped = {"installed": False, "detail": "not asked for (--no-timer)"}
        timer = skipped if no_timer else inspection.install_timer(runtime)
        words = custody.new_recovery_phrase(runtime) if session.may_ask else None
        warnings = wiring.storage_warnings(runtime.places)
    for code, message in warnings:
        session.console.warn(code, message)
    if words:
        show_recovery(session, words)
    data = {
        "account": created.name,
        "plan": created.plan,
        "timer": timer,
        "recovery_phrase_shown": bool(words),
    }
    lines = [f"account {created.name}: plan {created.plan}, vault sealed under your passphrase"]
    lines += [f"sweep timer: {timer['detail']}", 'next: fluxctx generate "a red apple" -o apple.png']
    session.console.done(data, lines)


def ask_terms(session: Session, text: str) -> None:
    """Show the terms and ask; without a terminal a flag must answer."""
    if not session.may_ask:
        raise TermsNotAccepted(
            "the acceptable-use terms are not accepted",
            hint="read `fluxctx terms show`, then add --accept-terms",
        )
    typer.echo(text, err=True)
    if not typer.confirm("accept these terms?", err=True):
        raise TermsNotAccepted("the acceptable-use terms are not accepted", hint="nothing was made")


def show_recovery(session: Session, words: str) -> None:
    """Show the recovery phrase once and have two words of it typed again."""
    numbered = [f"{number:2d} {word}" for number, word in enumerate(words.split(), 1)]
    rows = ["   ".join(entry.ljust(12) for entry in numbered[i : i + 4]) for i in range(0, len(numbered), 4)]
    typer.echo("\nrecovery phrase (shown once; write it on paper):\n\n" + "\n".join(rows) + "\n", err=True)
    typer.echo("without the vault's `keys` file or a backup, this phrase opens nothing\n", err=True)
    for position in (7, 19):
        if typer.prompt(f"word {position}", err=True).strip().lower() != words.split()[position - 1]:
            raise QuestionNeedsTerminal(
                "that is not the word", hint="`fluxctx vault recovery` makes a new phrase"
            )


app = single(init)
