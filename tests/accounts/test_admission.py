"""The first step of the flow: refusals with reason, and what is never refused (P7, P8, P9)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fluxctx.accounts.admission import Admission
from fluxctx.accounts.flags import EFFECTS, Flag, effects_of
from fluxctx.accounts.plans import packaged_plans, parse_change
from fluxctx.accounts.quotas import Usage
from fluxctx.accounts.record import AccountRecord, Measure, plan_of, status_of, view
from fluxctx.accounts.terms import Acceptance, Terms, current_terms, parse_terms
from fluxctx.domain import Workflow
from fluxctx.errors import AccountNotActive, PlanForbids, TermsNotAccepted
from tests.accounts.people import DAY, NOON, TERMS, account, model, record, request, strike

PLANS = packaged_plans()


def admission(one: AccountRecord, **changes: Any) -> Admission:
    return Admission(
        **{"record_of": lambda _: one, "plans": PLANS, "terms": TERMS, "now": lambda: NOON} | changes
    )


def test_an_account_in_good_standing_may_keep_what_its_plan_allows() -> None:
    for plan, days in (("free", 30), ("pro", 180), ("ultra", 365)):
        assert admission(record(plan)).admit(account(plan), request(), model()) == timedelta(days=days)


def test_the_registry_decides_and_not_the_account_that_was_handed_over() -> None:
    with pytest.raises(PlanForbids):
        admission(record("free")).admit(account("ultra"), request(steps=99), model())


@pytest.mark.parametrize("level", ["restricted", "suspended"])
def test_a_restricted_or_suspended_account_is_told_why_until_when_and_what_still_works(level: str) -> None:
    measure = Measure(level=level, reason="chargeback 7", since=NOON, until=NOON + DAY)
    with pytest.raises(AccountNotActive, match=f"{level} until 2026-11-25 12:00 UTC: chargeback 7") as caught:
        admission(record(measure=measure)).admit(account(), request(), model())
    assert "export" in caught.value.hint
    assert caught.value.details["until"] == (NOON + DAY).isoformat()


def test_a_measure_ends_by_itself() -> None:
    measure = Measure(level="suspended", reason="x", since=NOON - DAY, until=NOON)
    assert admission(record(measure=measure)).admit(account(), request(), model())
    forever = Measure(level="suspended", reason="x", since=NOON - 1000 * DAY)
    with pytest.raises(AccountNotActive, match="suspended: x"):
        admission(record(measure=forever)).admit(account(), request(), model())


def test_a_restriction_may_name_workflows_and_leave_the_others() -> None:
    measure = Measure(level="restricted", reason="x", since=NOON, workflows=(Workflow.EDIT,))
    admit = admission(record(measure=measure)).admit
    assert admit(account(), request(), model())
    with pytest.raises(AccountNotActive, match="restricted for edit: x"):
        admit(account(), request(workflow=Workflow.EDIT), model())


def test_three_points_take_uploads_away_and_leave_text_to_image() -> None:
    admit = admission(record(strikes=tuple(strike(number) for number in range(3)))).admit
    assert admit(account(), request(), model())
    with pytest.raises(AccountNotActive, match="restricted for edit until 2026-11-25 12:00 UTC: 3 points"):
        admit(account(), request(workflow=Workflow.EDIT), model())


def test_the_strictest_of_measure_flags_and_strikes_holds() -> None:
    mild = Measure(level="restricted", reason="mild", since=NOON, workflows=(Workflow.EDIT,))
    strikes = tuple(strike(number) for number in range(3))
    assert status_of(record(measure=replace(mild, workflows=()), strikes=strikes), NOON).reason == "mild"
    assert status_of(record(measure=mild, flags=(Flag.FRAUD,)), NOON).level == "suspended"
    six = tuple(strike(number) for number in range(6))
    assert status_of(record(measure=mild, strikes=six), NOON).reason == "6 points by strikes"


def test_terms_are_accepted_first_and_again_when_the_text_changes() -> None:
    with pytest.raises(TermsNotAccepted, match="have not been accepted") as caught:
        admission(record(acceptances=())).admit(account(), request(), model())
    assert "fluxctx terms accept" in caught.value.hint
    for changed in (replace(TERMS, version="2"), replace(TERMS, sha256="cd" * 32)):
        with pytest.raises(TermsNotAccepted, match="have changed"):
            admission(record(), terms=changed).admit(account(), request(), model())


def test_a_model_whose_licence_asks_for_the_filter_is_gone_where_the_filter_is_weakened() -> None:
    flux = model("flux-dev", requires_filter=True, licence="FLUX.1 [dev]")
    assert admission(record("pro")).admit(account(), request(), flux)
    with pytest.raises(PlanForbids, match="content filter"):
        admission(record("ultra"), filter_holds=False).admit(account(), request(), flux)
    assert admission(record("ultra"), filter_holds=False).admit(account(), request(), model())


def test_a_quota_that_is_used_up_refuses() -> None:
    usage = {"usage_of": lambda _: Usage(pictures=200)}
    with pytest.raises(PlanForbids):
        admission(record(), **usage).admit(account(), request(), model())
    assert admission(record("pro"), **usage).admit(account(), request(), model())


def test_grants_and_removals_count_from_the_next_request_on() -> None:
    granted = record(grants=(parse_change("retention_days:90"), parse_change("model:flux-*")))
    assert admission(granted).admit(account(), request(), model("flux-dev")) == 90 * DAY
    removed = record("ultra", removals=(parse_change("workflow:edit"),))
    with pytest.raises(PlanForbids):
        admission(removed).admit(account(), request(workflow=Workflow.EDIT), model())


def test_a_payment_dispute_caps_the_plan_and_a_legal_hold_changes_nothing_but_records() -> None:
    assert plan_of(record("ultra", flags=(Flag.PAYMENT_DISPUTE,)), PLANS).name == "free"
    assert plan_of(record("free", flags=(Flag.PAYMENT_DISPUTE,)), PLANS).name == "free"
    held = record("pro", flags=(Flag.LEGAL_HOLD,))
    assert admission(held).admit(account(), request(), model()) == 180 * DAY
    assert held.effects.keeps_records


def test_flags_together_have_the_strictest_of_each_effect() -> None:
    assert effects_of([]).log_retention == 90 * DAY
    assert effects_of([Flag.FRAUD, Flag.PAYMENT_DISPUTE]).log_retention == 180 * DAY
    assert effects_of(list(Flag)).log_retention is None
    assert not effects_of(list(Flag)).may_generate
    assert set(EFFECTS) == set(Flag)


def test_the_account_is_shown_with_its_status_and_the_terms_it_accepted() -> None:
    shown = view(record(flags=(Flag.FRAUD,)), NOON)
    assert (shown.status, shown.status_reason, shown.terms_version) == (
        "suspended",
        "a fraud case is open",
        "1",
    )
    assert shown.terms_accepted_at == NOON - DAY
    assert view(record(acceptances=()), NOON).terms_version is None


def test_the_packaged_terms_have_a_version_and_cover_what_the_promise_names() -> None:
    terms = current_terms()
    assert terms.version == "1"
    assert Acceptance(version="1", sha256=terms.sha256, at=NOON).covers(terms)
    text = terms.text.lower()
    for word in (
        "prompts",
        "uploads",
        "outputs",
        "published work",
        "law",
        "platform",
        "payment processors",
        "illegal violence",
        "appeal",
        "export, purge and delete",
    ):
        assert word in text, word


def test_terms_without_a_version_are_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        parse_terms("# Terms\n")
    assert isinstance(parse_terms("Version 2.1, 2027-01-01\n"), Terms)
