"""What a plan allows, and what an account's grants and removals make of it.  Pure; figures: plans.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any, Literal, TypeVar

from fluxctx.domain import DEFAULT_RETENTION, GenerationRequest, InstalledModel, Workflow
from fluxctx.errors import InvalidRequest, PlanForbids

Name = TypeVar("Name", bound=str)

NAMES = ("free", "pro", "ultra")
LIMITS = (
    "max_side_px",
    "max_pixels",
    "max_steps",
    "max_count",
    "max_frames",
    "retention_days",
    "api_tokens",
    "stored_gib",
    "pictures_per_day",
    "device_minutes_per_day",
)
QUOTAS = ("stored_gib", "pictures_per_day", "device_minutes_per_day")  # 0 = none


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is allowed; field by field as in plans.toml, with `forbidden_models` by removal only."""

    name: str
    models: tuple[str, ...]
    workflows: tuple[Workflow, ...]
    max_side_px: int
    max_pixels: int
    max_steps: int
    max_count: int
    max_frames: int
    retention_days: int
    dpa: bool
    api_tokens: int
    stored_gib: int
    pictures_per_day: int
    device_minutes_per_day: int
    forbidden_models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for limit in LIMITS:
            value = getattr(self, limit)
            if type(value) is not int or value < 0:
                raise ValueError(f"{limit} is a whole number that is not negative")

    @property
    def retention(self) -> timedelta:
        """The longest life an item may be given."""
        return timedelta(days=self.retention_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One grant or removal: "model:flux-dev", "workflow:text-to-video", "max_steps:80", "dpa"."""

    kind: Literal["model", "workflow", "limit", "dpa"]
    name: str
    value: int = 0

    def __str__(self) -> str:
        if self.kind == "limit":
            return f"{self.name}:{self.value}"
        return self.kind if self.kind == "dpa" else f"{self.kind}:{self.name}"


def parse_change(text: str) -> Change:
    """Read a grant or removal; raises InvalidRequest."""
    name, _, value = text.partition(":")
    if text == "dpa":
        return Change(kind="dpa", name="dpa")
    if name == "model" and value and not any(letter.isspace() for letter in value):
        return Change(kind="model", name=value)
    if name == "workflow" and value in {str(one) for one in Workflow}:
        return Change(kind="workflow", name=value)
    if name in LIMITS and value.isascii() and value.isdigit() and len(value) < 12:
        return Change(kind="limit", name=name, value=int(value))
    raise InvalidRequest(
        "not a grant",
        hint=f"one of model:NAME, workflow:NAME, dpa, or LIMIT:NUMBER with {', '.join(LIMITS)}",
    )


def parse_plans(text: str) -> dict[str, Plan]:
    """Read plans.toml.

    Raises:
        ValueError: a plan or field is missing or unknown, the embedded model is not allowed everywhere, or a
            plan allows less than the default retention.
    """
    tables = tomllib.loads(text)
    if set(tables) != set(NAMES):
        raise ValueError("plans are free, pro and ultra")
    plans = {}
    for name, table in tables.items():
        known = {field.name for field in fields(Plan)} - {"name", "forbidden_models"}
        if set(table) != known:
            raise ValueError(f"plan {name} lacks a field or has an unknown one")
        lists = {
            "models": tuple(table["models"]),
            "workflows": tuple(Workflow(one) for one in table["workflows"]),
        }
        plan = Plan(**{**table, **lists}, name=name)
        if plan.retention < DEFAULT_RETENTION:
            raise ValueError(f"plan {name} allows less than the default retention")
        if not {"*", "@embedded"} & set(plan.models):
            raise ValueError(f"plan {name} does not allow the embedded model")
        plans[name] = plan
    return plans


def packaged_plans() -> dict[str, Plan]:
    """The plans that ship with fluxctx."""
    return parse_plans(files("fluxctx.accounts").joinpath("plans.toml").read_text("utf-8"))


def effective_plan(plan: Plan, grants: Iterable[Change] = (), removals: Iterable[Change] = ()) -> Plan:
    """The plan with grants added and removals taken away; a removal beats every grant, in any order.

    A granted limit is at least what it says, a removed one at most; a quota of 0 is none, the largest.
    """
    plan = _granted(plan, grants)
    for change in removals:
        match change.kind:
            case "model":
                plan = replace(plan, forbidden_models=_with(plan.forbidden_models, change.name))
            case "workflow":
                kept = tuple(one for one in plan.workflows if one != change.name)
                plan = replace(plan, workflows=kept)
            case "dpa":
                plan = replace(plan, dpa=False)
            case _:
                plan = _limited(plan, change, smallest=True)
    return plan


def _granted(plan: Plan, grants: Iterable[Change]) -> Plan:
    for change in grants:
        match change.kind:
            case "model":
                plan = replace(plan, models=_with(plan.models, change.name))
            case "workflow":
                plan = replace(plan, workflows=_with(plan.workflows, Workflow(change.name)))
            case "dpa":
                plan = replace(plan, dpa=True)
            case _:
                plan = _limited(plan, change, smallest=False)
    return plan


def _with(values: tuple[Name, ...], value: Name) -> tuple[Name, ...]:
    return values if value in values else (*values, value)


def _limited(plan: Plan, change: Change, *, smallest: bool) -> Plan:
    def weight(value: int) -> float:
        return float("inf") if value == 0 and change.name in QUOTAS else value

    values: Mapping[str, Any] = {
        change.name: (min if smallest else max)(getattr(plan, change.name), change.value, key=weight)
    }
    return replace(plan, **values)


def allows_model(plan: Plan, model: InstalledModel) -> bool:
    """Whether the plan's patterns name this model and no removal does."""
    if any(fnmatchcase(model.name, pattern) for pattern in plan.forbidden_models):
        return False
    embedded = model.embedded and "@embedded" in plan.models
    return embedded or any(fnmatchcase(model.name, pattern) for pattern in plan.models)


def check_request(plan: Plan, request: GenerationRequest, model: InstalledModel) -> None:
    """Refuse what the plan does not include; what the request leaves open counts with the model's default.

    Raises:
        PlanForbids: details name the field, what was asked and what is allowed.
    """
    if not allows_model(plan, model):
        raise _forbidden(plan, "model", model.name, ", ".join(plan.models))
    if request.workflow not in plan.workflows:
        raise _forbidden(plan, "workflow", str(request.workflow), ", ".join(plan.workflows))
    size = request.size or model.default_size
    side, pixels = max(size.width_px, size.height_px), size.width_px * size.height_px
    if side > plan.max_side_px or pixels > plan.max_pixels:
        allowed = f"sides of {plan.max_side_px} px, {plan.max_pixels} pixels in all"
        raise _forbidden(plan, "size", str(size), allowed)
    steps = model.default_steps if request.steps is None else request.steps
    for field, asked, most in (
        ("steps", steps, plan.max_steps),
        ("count", len(request.seeds), plan.max_count),
        ("frames", request.frames or 0, plan.max_frames),
    ):
        if asked > most:
            raise _forbidden(plan, field, str(asked), f"up to {most}")
    if request.retain is not None and request.retain > plan.retention:
        raise _forbidden(plan, "retain", f"{request.retain.days}d", f"up to {plan.retention_days}d")


def _forbidden(plan: Plan, field: str, asked: str, allowed: str) -> PlanForbids:
    return PlanForbids(
        f"the plan {plan.name} does not include {field} {asked}",
        hint=f"it allows {allowed}; `fluxctx account show` lists the plan",
        details={"plan": plan.name, "field": field, "asked": asked, "allowed": allowed},
    )
