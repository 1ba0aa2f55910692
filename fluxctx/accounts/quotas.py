"""Quotas: how much a plan allows a day and in store.  Pure; the figures are counted by the caller."""

from __future__ import annotations

from dataclasses import dataclass

from fluxctx.accounts.plans import Plan
from fluxctx.errors import PlanForbids

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an account has in store now, and has used since midnight UTC."""

    stored_bytes: int = 0
    pictures: int = 0
    device_s: float = 0.0


def check_quota(plan: Plan, usage: Usage, *, pictures: int) -> None:
    """Refuse what would go beyond a quota; raises PlanForbids.  A limit of 0 is no limit."""
    for field, used, asked, limit in (
        ("stored_gib", usage.stored_bytes / GIB, 0.0, plan.stored_gib),
        ("pictures_per_day", float(usage.pictures), float(pictures), plan.pictures_per_day),
        ("device_minutes_per_day", usage.device_s / 60, 0.0, plan.device_minutes_per_day),
    ):
        full = used + asked > limit if asked else used >= limit
        if limit and full:
            hint = "purge something" if field == "stored_gib" else "the day ends at midnight UTC"
            raise PlanForbids(
                f"the plan {plan.name} allows {limit} {field.replace('_', ' ')}, {used:.0f} are used",
                hint=f"{hint}; `fluxctx account show` lists the plan",
                details={"plan": plan.name, "field": field, "used": used, "allowed": limit},
            )
