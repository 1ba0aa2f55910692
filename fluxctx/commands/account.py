"""`fluxctx account show|list|...`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fluxctx.accounts.plans import packaged_plans
from fluxctx.accounts.record import AccountRecord, plan_of
from fluxctx.commands.base import Session, group
from fluxctx.domain import Account, utc


def row(account: Account) -> dict[str, Any]:
    """What may be shown of an account."""
    return {
        "name": account.name,
        "plan": account.plan,
        "role": account.role,
        "status": account.status,
        "status_reason": account.status_reason,
        "terms": account.terms_version,
        "created_at": utc(account.created_at),
    }


def show(session: Session) -> None:
    """Show the account: plan, limits, status and accepted terms."""
    with session.runtime() as runtime:
        account = runtime.open_account(unlock=False)
        data = row(account) | {"limits": limits(runtime.registry().record(account.id))}
    lines = [f"{key:<14} {value}" for key, value in row(account).items() if value not in ("", None)]
    lines += ["", *(f"{key.replace('_', ' '):<23} {plain(value)}" for key, value in data["limits"].items())]
    session.console.done({"account": data}, lines)


def list_accounts(session: Session) -> None:
    """List the accounts on this machine."""
    with session.runtime() as runtime:
        rows = [row(account) for account in runtime.registry().accounts(runtime.now())]
    session.console.done({"accounts": rows}, session.console.table(rows, ("name", "plan", "role", "status")))


def plain(value: Any) -> str:
    """A limit for people; 0 means that there is none."""
    if isinstance(value, (tuple, list)):
        return ", ".join(str(one) for one in value) or "none"
    return "no limit" if value == 0 and not isinstance(value, bool) else str(value)


def limits(record: AccountRecord) -> dict[str, Any]:
    """What the plan, with grants and removals, allows."""
    plan = asdict(plan_of(record, packaged_plans()))
    return {key: value for key, value in plan.items() if value is not None}


app = group("Accounts on this machine: show, list.", show=show, list=list_accounts)
