"""Strikes: fixed thresholds, decay, one for a retry loop, and a way back (P9)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxctx.accounts.strikes import POINTS, Strike, add_strike, reverse_strike, standing
from tests.accounts.people import DAY, NOON, strike


def levels(strikes: list[Strike], at: datetime) -> str:
    return standing(strikes, at).level


def test_no_strike_is_a_clear_standing() -> None:
    assert standing([], NOON).level == "clear"


@pytest.mark.parametrize(
    ("count", "level"),
    [(1, "warned"), (2, "warned"), (3, "restricted"), (5, "restricted"), (6, "suspended"), (10, "suspended")],
)
def test_points_warn_then_restrict_then_suspend(count: int, level: str) -> None:
    assert levels([strike(number) for number in range(count)], NOON) == level


def test_a_restriction_lasts_a_day_a_suspension_a_week_and_ten_points_until_somebody_decides() -> None:
    three, six, ten = ([strike(number) for number in range(count)] for count in (3, 6, 10))
    assert standing(three, NOON).until == NOON + DAY
    assert levels(three, NOON + DAY) == "warned"
    assert standing(six, NOON).until == NOON + 7 * DAY
    assert levels(six, NOON + 7 * DAY) == "warned"
    assert standing(ten, NOON + 89 * DAY) == standing(ten, NOON)
    assert standing(ten, NOON).until is None


def test_points_lapse_after_90_days() -> None:
    ten = [strike(number) for number in range(10)]
    assert levels(ten, NOON + 90 * DAY - timedelta(seconds=1)) == "suspended"
    assert standing(ten, NOON + 90 * DAY) == standing([], NOON)


def test_a_later_strike_starts_the_time_anew() -> None:
    four = [strike(number) for number in range(3)] + [strike(3, at=NOON + DAY)]
    assert standing(four, NOON + DAY).until == NOON + 2 * DAY


def test_a_locked_rule_on_minors_suspends_at_once_and_a_confirmed_one_until_somebody_decides() -> None:
    (hit,), counted = add_strike([], strike(category="minors_sexual"))
    assert counted
    assert standing([hit], NOON).until == NOON + 7 * DAY
    (confirmed,), counted = add_strike(
        [hit], strike(category="minors_sexual", source="confirmed", at=NOON + DAY)
    )
    assert counted
    assert standing([confirmed], NOON + 30 * DAY) == standing([confirmed], NOON)
    assert standing([confirmed], NOON).level == "suspended"


def test_confirming_a_mild_hit_adds_nothing() -> None:
    (one,), counted = add_strike([strike()], strike(source="confirmed"))
    assert (one.source, counted) == ("confirmed", False)


@pytest.mark.parametrize("category", ["self_harm", "ip_privacy", "suggestive", "unheard_of"])
def test_categories_without_points_leave_no_strike(category: str) -> None:
    assert category not in POINTS
    assert add_strike([], strike(category=category)) == ((), False)
    assert standing([strike(category=category)], NOON).level == "clear"


def test_the_same_prompt_within_ten_minutes_is_one_strike() -> None:
    kept, counted = add_strike([strike()], strike(id="f" * 32, at=NOON + timedelta(minutes=9, seconds=59)))
    assert (len(kept), counted) == (1, False)
    kept, counted = add_strike([strike()], strike(id="f" * 32, at=NOON + timedelta(minutes=10)))
    assert (len(kept), counted) == (2, True)
    kept, counted = add_strike([strike()], strike(1))
    assert (len(kept), counted) == (2, True)


def test_a_clock_that_went_back_does_not_make_a_retry_a_second_strike() -> None:
    assert add_strike([strike()], strike(id="f" * 32, at=NOON - timedelta(minutes=5)))[1] is False


def test_a_reversed_strike_gives_its_points_back() -> None:
    three = [strike(number) for number in range(3)]
    assert levels(list(reverse_strike(three, strike(1).id, NOON)), NOON) == "warned"
    with pytest.raises(KeyError):
        reverse_strike(three, "0" * 31 + "f", NOON)


def test_the_same_prompt_counts_again_once_its_strike_was_reversed() -> None:
    kept, counted = add_strike([strike(reversed_at=NOON)], strike(id="f" * 32))
    assert (len(kept), counted) == (2, True)


@given(
    st.permutations([strike(number, at=NOON - number * DAY, category=c) for number, c in enumerate(POINTS)])
)
def test_the_order_in_which_strikes_are_listed_changes_nothing(strikes: list[Strike]) -> None:
    assert standing(strikes, NOON) == standing(sorted(strikes, key=lambda one: one.at), NOON)
