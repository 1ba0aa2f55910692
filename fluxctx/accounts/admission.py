"""The first step of the flow: may this account have this made, and for how long may it be kept (P7, P9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fluxctx.accounts.plans import Plan, check_request
from fluxctx.accounts.quotas import Usage, check_quota
from fluxctx.accounts.record import AccountRecord, plan_of, status_of
from fluxctx.accounts.terms import Terms
from fluxctx.domain import Account, AccountId, GenerationRequest, InstalledModel
from fluxctx.errors import AccountNotActive, PlanForbids, TermsNotAccepted

STILL_POSSIBLE = "`fluxctx export`, `fluxctx purge` and `fluxctx account delete` still work"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Satisfies `generation.Accounts` from the registry, the plans and the terms in force."""

    record_of: Callable[[AccountId], AccountRecord]  # raises AccountNotFound
    plans: Mapping[str, Plan]
    terms: Terms
    now: Callable[[], datetime]
    filter_holds: bool = True  # False where the content policy in force is weaker than the packaged one
    usage_of: Callable[[AccountId], Usage] | None = field(default=None)

    def admit(self, account: Account, request: GenerationRequest, model: InstalledModel) -> timedelta:
        """Return the longest retention this account may use.

        Raises:
            AccountNotActive: restricted or suspended, with reason and end.
            TermsNotAccepted: the terms in force are not the ones that were accepted.
            PlanForbids: plan, removal, quota or the model's licence says no; details say what is allowed.
        """
        now = self.now()
        record = self.record_of(account.id)
        check_active(record, request, now)
        check_terms(record, self.terms)
        if model.requires_filter and not self.filter_holds:
            raise PlanForbids(
                f"the licence of {model.name} asks for the content filter",
                hint="`fluxctx policy show` says what weakens it",
                details={"field": "model", "asked": model.name, "licence": model.licence},
            )
        plan = plan_of(record, self.plans)
        check_request(plan, request, model)
        if self.usage_of is not None:
            check_quota(plan, self.usage_of(account.id), pictures=len(request.seeds))
        return plan.retention


def check_active(record: AccountRecord, request: GenerationRequest, now: datetime) -> None:
    """Refuse with reason and end; raises AccountNotActive.  Nothing but generation asks this."""
    status = status_of(record, now)
    if status.level == "active":
        return
    if status.level == "restricted" and status.workflows and request.workflow not in status.workflows:
        return
    until = f" until {status.until:%Y-%m-%d %H:%M} UTC" if status.until else ""
    scope = f" for {request.workflow}" if status.workflows else ""
    raise AccountNotActive(
        f"the account is {status.level}{scope}{until}: {status.reason}",
        hint=f"`fluxctx policy review appeal` asks for another look; {STILL_POSSIBLE}",
        details={
            "status": status.level,
            "reason": status.reason,
            "until": status.until.isoformat() if status.until else None,
            "workflows": [str(one) for one in status.workflows],
        },
    )


def check_terms(record: AccountRecord, terms: Terms) -> None:
    """Refuse until the terms in force were accepted; raises TermsNotAccepted."""
    newest = record.acceptances[-1] if record.acceptances else None
    if newest is not None and newest.covers(terms):
        return
    changed = "have changed since they were accepted" if newest else "have not been accepted"
    raise TermsNotAccepted(
        f"the acceptable-use terms, version {terms.version}, {changed}",
        hint="read them with `fluxctx terms show`, then run `fluxctx terms accept`",
        details={"version": terms.version, "sha256": terms.sha256},
    )
