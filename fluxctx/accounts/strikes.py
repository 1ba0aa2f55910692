"""Strikes: what counts, for how long, and what follows (P9).  Pure.

- Only a hit on a locked rule or one that a person confirmed counts; a classifier's score alone never does.
- A strike's points count for 90 days.
- The same prompt (by keyed digest) within 10 minutes is one strike: a retry loop is not six offences.
- 1 or 2 points warn; 3 restrict for 24 hours; 6 suspend for 7 days; 10, or one confirmed hit of severity 4,
  suspend until a person decides.
- A reversed strike counts nowhere and gives back what it took.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from fluxctx.domain import Workflow

DECAY = timedelta(days=90)
SAME_PROMPT = timedelta(minutes=10)
RESTRICT_AT, RESTRICT_FOR = 3, timedelta(hours=24)
SUSPEND_AT, SUSPEND_FOR = 6, timedelta(days=7)
BAN_AT = 10

# Points a locked rule's hit gives, by category of the policy's taxonomy; 0 and unnamed ones never count.
POINTS = {
    "minors_sexual": 6,  # suspends at once
    "ncii": 3,
    "weapons_mass": 3,
    "terror_extremism": 3,
    "illegal_violence": 2,
    "fraud_forgery": 2,
    "hate": 1,
    "sexual_explicit": 1,
    "gore": 1,
    "deception": 1,
    "illegal_goods": 1,
}
SEVERITY_4 = frozenset({"minors_sexual", "ncii", "weapons_mass", "terror_extremism"})

# What a restriction by strikes takes away: everything that starts from somebody's picture, and video.
RESTRICTED_WORKFLOWS = tuple(one for one in Workflow if one is not Workflow.TEXT_TO_IMAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One offence, without a word of the prompt: `digest` is keyed, so only the account can recognise it."""

    id: str  # random, 32 hex digits; an appeal names it
    at: datetime
    category: str
    rule: str
    source: Literal["locked-rule", "confirmed"]
    digest: str
    policy_revision: int
    reversed_at: datetime | None = None

    @property
    def points(self) -> int:
        """What it weighs while it counts."""
        if self.source == "confirmed" and self.category in SEVERITY_4:
            return BAN_AT
        return POINTS.get(self.category, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an account's strikes make of it now."""

    points: int
    level: Literal["clear", "warned", "restricted", "suspended"]
    until: datetime | None = None  # None with "suspended": until a person decides


def add_strike(strikes: Sequence[Strike], new: Strike) -> tuple[tuple[Strike, ...], bool]:
    """Add a strike unless it weighs nothing or repeats one; says whether it counted.

    A person's confirmation replaces the locked rule's hit on the same prompt, whenever it comes.
    """
    if new.points == 0:
        return tuple(strikes), False
    for number, old in enumerate(strikes):
        if old.digest != new.digest or old.reversed_at is not None:
            continue
        if new.source == "confirmed" and old.source == "locked-rule":
            kept = replace(old, source="confirmed")
            return (*strikes[:number], kept, *strikes[number + 1 :]), kept.points > old.points
        if abs(new.at - old.at) < SAME_PROMPT:
            return tuple(strikes), False
    return (*strikes, new), True


def reverse_strike(strikes: Sequence[Strike], strike_id: str, at: datetime) -> tuple[Strike, ...]:
    """Take one back after an appeal; raises KeyError where there is none with this id."""
    if strike_id not in {one.id for one in strikes}:
        raise KeyError(strike_id)
    return tuple(replace(one, reversed_at=at) if one.id == strike_id else one for one in strikes)


def standing(strikes: Iterable[Strike], now: datetime) -> Standing:
    """Weigh the strikes that count now; a later strike starts the time of a restriction anew."""
    counting = sorted(
        (one for one in strikes if one.reversed_at is None and one.points and now - one.at < DECAY),
        key=lambda one: one.at,
    )
    points = sum(one.points for one in counting)
    if points >= BAN_AT:
        return Standing(points=points, level="suspended")
    newest = counting[-1].at if counting else now
    if points >= SUSPEND_AT and now < newest + SUSPEND_FOR:
        return Standing(points=points, level="suspended", until=newest + SUSPEND_FOR)
    if points >= RESTRICT_AT and now < newest + RESTRICT_FOR:
        return Standing(points=points, level="restricted", until=newest + RESTRICT_FOR)
    return Standing(points=points, level="warned" if points else "clear")
