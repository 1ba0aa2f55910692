"""What plans allow, and what grants and removals make of them (P7)."""

from __future__ import annotations

from datetime import timedelta
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxctx.accounts.plans import (
    LIMITS,
    NAMES,
    Change,
    allows_model,
    check_request,
    effective_plan,
    packaged_plans,
    parse_change,
    parse_plans,
)
from fluxctx.accounts.quotas import GIB, Usage, check_quota
from fluxctx.domain import DEFAULT_RETENTION, Size, Workflow
from fluxctx.errors import InvalidRequest, PlanForbids
from tests.accounts.people import model, request

PLANS = packaged_plans()


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_makes_a_picture_with_the_embedded_model_and_keeps_it_30_days(name: str) -> None:
    for workflow in (Workflow.TEXT_TO_IMAGE, Workflow.EDIT):
        check_request(PLANS[name], request(workflow=workflow, retain=DEFAULT_RETENTION), model())
    assert PLANS[name].retention >= DEFAULT_RETENTION
    check_request(PLANS[name], request(), model("another-name", embedded=True))


def test_each_plan_allows_all_that_the_one_below_allows() -> None:
    for lower, higher in (("free", "pro"), ("pro", "ultra")):
        low, high = PLANS[lower], PLANS[higher]
        assert set(low.workflows) <= set(high.workflows)
        assert low.dpa <= high.dpa
        for limit in LIMITS:
            assert getattr(high, limit) == 0 or getattr(low, limit) <= getattr(high, limit)


def test_only_pro_and_ultra_come_with_an_agreement() -> None:
    assert {name for name in NAMES if PLANS[name].dpa} == {"pro", "ultra"}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"workflow": Workflow.TEXT_TO_VIDEO}, "workflow"),
        ({"size": Size(width_px=1032, height_px=8)}, "size"),
        ({"size": Size(width_px=8, height_px=1032)}, "size"),
        ({"steps": 51}, "steps"),
        ({"seeds": (1, 2, 3, 4, 5)}, "count"),
        ({"frames": 1}, "frames"),
        ({"retain": timedelta(days=31)}, "retain"),
        ({"retain": timedelta(days=30, seconds=1)}, "retain"),
    ],
)
def test_the_free_plan_says_what_it_does_not_include_and_what_it_allows(
    asked: dict[str, object], field: str
) -> None:
    with pytest.raises(PlanForbids) as caught:
        check_request(PLANS["free"], request(**asked), model())
    assert caught.value.details["field"] == field
    assert str(caught.value.details["allowed"]) in caught.value.hint
    assert "apple" not in str(caught.value) + caught.value.hint


def test_the_free_plan_names_the_models_that_it_includes() -> None:
    with pytest.raises(PlanForbids, match="model flux-dev") as caught:
        check_request(PLANS["free"], request(), model("flux-dev"))
    assert "@embedded" in caught.value.hint


def test_the_edges_of_the_free_plan_are_inside() -> None:
    size = Size(width_px=1024, height_px=1024)
    check_request(
        PLANS["free"],
        request(size=size, steps=50, seeds=(1, 2, 3, 4), retain=timedelta(days=30)),
        model(),
    )


def test_a_default_of_the_model_counts_like_a_value_that_was_asked_for() -> None:
    with pytest.raises(PlanForbids):
        check_request(PLANS["free"], request(), model(default_steps=51))
    with pytest.raises(PlanForbids):
        check_request(PLANS["free"], request(), model(default_size=Size(width_px=2048, height_px=64)))


def test_models_are_named_by_pattern_and_a_removal_beats_a_grant() -> None:
    free, flux = PLANS["free"], model("flux-dev")
    assert not allows_model(free, flux)
    granted = effective_plan(free, [Change(kind="model", name="flux-*")])
    assert allows_model(granted, flux)
    removed = effective_plan(
        free, [Change(kind="model", name="flux-*")], [Change(kind="model", name="flux-dev")]
    )
    assert not allows_model(removed, flux)
    assert allows_model(removed, model("flux-schnell"))
    assert not allows_model(
        effective_plan(PLANS["ultra"], [], [Change(kind="model", name="starter")]), model()
    )


def test_workflows_limits_and_the_agreement_can_be_granted_and_removed() -> None:
    grants = [
        parse_change(text) for text in ("workflow:text-to-video", "max_steps:80", "max_frames:25", "dpa")
    ]
    plan = effective_plan(PLANS["free"], grants)
    assert Workflow.TEXT_TO_VIDEO in plan.workflows
    assert (plan.max_steps, plan.max_frames, plan.dpa) == (80, 25, True)
    less = effective_plan(
        PLANS["free"], grants, [parse_change(text) for text in ("dpa", "max_steps:10", "workflow:edit")]
    )
    assert (less.max_steps, less.dpa) == (10, False)
    assert Workflow.EDIT not in less.workflows


def test_a_granted_limit_never_takes_away_and_a_removed_one_never_adds() -> None:
    assert effective_plan(PLANS["pro"], [parse_change("max_steps:5")]).max_steps == 100
    assert effective_plan(PLANS["pro"], [], [parse_change("max_steps:500")]).max_steps == 100
    assert effective_plan(PLANS["free"], [parse_change("stored_gib:0")]).stored_gib == 0
    assert effective_plan(PLANS["ultra"], [], [parse_change("stored_gib:7")]).stored_gib == 7


CHANGES = st.one_of(
    st.builds(
        lambda name: Change(kind="model", name=name), st.sampled_from(["flux-*", "starter", "z-image"])
    ),
    st.builds(
        lambda name: Change(kind="workflow", name=name), st.sampled_from([str(one) for one in Workflow])
    ),
    st.builds(
        lambda name, value: Change(kind="limit", name=name, value=value),
        st.sampled_from(LIMITS),
        st.integers(0, 10_000),
    ),
    st.just(Change(kind="dpa", name="dpa")),
)


@given(st.lists(CHANGES, max_size=6), st.lists(CHANGES, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_grants_and_removals_changes_nothing(grants, removals, random) -> None:
    def allowed(grants, removals):
        plan = effective_plan(PLANS["free"], grants, removals)
        values = {limit: getattr(plan, limit) for limit in LIMITS}
        return values, set(plan.workflows), set(plan.models), set(plan.forbidden_models), plan.dpa

    mixed_grants, mixed_removals = list(grants), list(removals)
    random.shuffle(mixed_grants)
    random.shuffle(mixed_removals)
    assert allowed(grants, removals) == allowed(mixed_grants, mixed_removals)


@given(CHANGES)
def test_a_change_is_read_back_as_it_was_written(change: Change) -> None:
    assert parse_change(str(change)) == change


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model",
        "model:",
        "model:a b",
        "workflow:dance",
        "max_steps",
        "max_steps:-1",
        "max_steps:²",
        "name:x",
        "dpa:1",
        "max_steps:" + "9" * 12,
    ],
)
def test_what_is_no_grant_is_refused_with_the_list_of_grants(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not a grant") as caught:
        parse_change(text)
    assert "max_steps" in caught.value.hint


PACKAGED = files("fluxctx.accounts").joinpath("plans.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[free]", "[cheap]"),
        ("max_steps = 50\n", ""),
        ("max_steps = 50", "max_speed = 50"),
        ("max_steps = 50", "max_steps = -1"),
        ("max_steps = 50", "max_steps = 1.5"),
        ("retention_days = 30", "retention_days = 29"),
        ('models = ["@embedded", "starter"]', 'models = ["flux-dev"]'),
        ('"edit"', '"dance"'),
    ],
)
def test_a_plan_file_that_breaks_a_rule_is_refused(old: str, new: str) -> None:
    assert old in PACKAGED
    with pytest.raises(ValueError):
        parse_plans(PACKAGED.replace(old, new))


def test_quotas_hold_to_the_last_picture() -> None:
    free = PLANS["free"]
    check_quota(free, Usage(pictures=199), pictures=1)
    with pytest.raises(PlanForbids, match="200 pictures per day"):
        check_quota(free, Usage(pictures=199), pictures=2)
    with pytest.raises(PlanForbids, match="5 stored gib") as caught:
        check_quota(free, Usage(stored_bytes=5 * GIB), pictures=1)
    assert "purge" in caught.value.hint
    check_quota(free, Usage(stored_bytes=5 * GIB - 1, device_s=120 * 60 - 1), pictures=1)
    with pytest.raises(PlanForbids, match="120 device minutes per day"):
        check_quota(free, Usage(device_s=120 * 60), pictures=1)
    check_quota(PLANS["ultra"], Usage(pictures=10**9, stored_bytes=10**15, device_s=1e9), pictures=100)
