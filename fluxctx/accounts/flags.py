"""Flags that an operator sets on an account, and their effects (P8).  None touches an item's expiry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Flag(StrEnum):
    """Why an account is looked at, apart from what it made."""

    FRAUD = "fraud"
    PAYMENT_DISPUTE = "payment_dispute"
    LEGAL_HOLD = "legal_hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What the flags of one account do together."""

    may_generate: bool = True
    plan_cap: str | None = None  # the highest plan that holds while the flag stands
    keeps_records: bool = False  # account record and logs outlive the account's deletion; items never do
    log_retention: timedelta | None = timedelta(days=90)  # None: until the hold is lifted


EFFECTS = {
    Flag.FRAUD: Effects(may_generate=False, keeps_records=True, log_retention=timedelta(days=180)),
    Flag.PAYMENT_DISPUTE: Effects(plan_cap="free", keeps_records=True, log_retention=timedelta(days=180)),
    Flag.LEGAL_HOLD: Effects(keeps_records=True, log_retention=None),
}


def effects_of(flags: Iterable[Flag]) -> Effects:
    """The strictest of each effect."""
    all_of = [EFFECTS[flag] for flag in flags]
    limits = [one.log_retention for one in all_of] or [Effects().log_retention]
    bounded = [limit for limit in limits if limit is not None]
    return Effects(
        may_generate=all(one.may_generate for one in all_of),
        plan_cap=next((one.plan_cap for one in all_of if one.plan_cap), None),
        keeps_records=any(one.keeps_records for one in all_of),
        log_retention=max(bounded) if len(bounded) == len(limits) else None,
    )
