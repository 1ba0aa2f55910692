"""What the registry knows of one account, and what that makes of it at a given time.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from fluxctx.accounts.flags import Effects, Flag, effects_of
from fluxctx.accounts.plans import Change, Plan, effective_plan
from fluxctx.accounts.strikes import RESTRICTED_WORKFLOWS, Strike, standing
from fluxctx.accounts.terms import Acceptance
from fluxctx.domain import Account, Workflow

CAPPED = {"free": 0, "pro": 1, "ultra": 2}  # the order of plans, lowest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """An operator's restriction or suspension."""

    level: Literal["restricted", "suspended"]
    reason: str = field(repr=False)
    since: datetime
    until: datetime | None = None  # None: until it is lifted
    workflows: tuple[Workflow, ...] = ()  # what a restriction takes away; empty: all generation


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenNote:
    """An API token's name, end and digest; the key it unwraps lives in the vault's slot."""

    name: str
    digest: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """One account with all that was decided about it.  `account` carries no derived value; see `view`."""

    account: Account
    measure: Measure | None = None
    grants: tuple[Change, ...] = ()
    removals: tuple[Change, ...] = ()
    flags: tuple[Flag, ...] = ()
    strikes: tuple[Strike, ...] = ()
    acceptances: tuple[Acceptance, ...] = ()
    tokens: tuple[TokenNote, ...] = ()

    @property
    def effects(self) -> Effects:
        """What the account's flags do."""
        return effects_of(self.flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What holds now, from the operator's measure, the flags and the strikes together."""

    level: Literal["active", "restricted", "suspended"]
    reason: str = ""
    until: datetime | None = None
    workflows: tuple[
        Workflow, ...
    ] = ()  # what a restriction takes away; empty with "restricted": all generation


def status_of(record: AccountRecord, now: datetime) -> Status:
    """The strictest that holds at `now`; suspended before restricted, all workflows before some."""
    found = []
    measure = record.measure
    if measure is not None and (measure.until is None or now < measure.until):
        found.append(
            Status(
                level=measure.level, reason=measure.reason, until=measure.until, workflows=measure.workflows
            )
        )
    if not record.effects.may_generate:
        found.append(Status(level="suspended", reason="a fraud case is open"))
    points = standing(record.strikes, now)
    if points.level in ("restricted", "suspended"):
        workflows = RESTRICTED_WORKFLOWS if points.level == "restricted" else ()
        reason = f"{points.points} points by strikes"
        found.append(Status(level=points.level, reason=reason, until=points.until, workflows=workflows))
    found.sort(key=lambda status: (status.level != "suspended", bool(status.workflows)))
    return found[0] if found else Status(level="active")


def view(record: AccountRecord, now: datetime) -> Account:
    """The account as the flow sees it now: status and accepted terms filled in."""
    status = status_of(record, now)
    newest = record.acceptances[-1] if record.acceptances else None
    return replace(
        record.account,
        status=status.level,
        status_reason=status.reason,
        terms_version=newest.version if newest else None,
        terms_accepted_at=newest.at if newest else None,
    )


def plan_of(record: AccountRecord, plans: Mapping[str, Plan]) -> Plan:
    """The plan with this account's grants and removals; a flag may cap which plan it is."""
    name, cap = record.account.plan, record.effects.plan_cap
    if cap is not None and CAPPED[cap] < CAPPED[name]:
        name = cap
    return effective_plan(plans[name], record.grants, record.removals)
