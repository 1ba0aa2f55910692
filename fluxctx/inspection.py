"""What can be looked at: trust, doctor, isolation, an item's lifecycle, a dry run.  Every fact is measured now."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxctx import timer, wiring
from fluxctx.domain import (
    GenerationRequest,
    Item,
    RawImage,
    utc,
)
from fluxctx.errors import FluxctxError

if TYPE_CHECKING:
    from fluxctx.confined.probe import ProbeReport
    from fluxctx.runtime import Runtime

# --- isolation ------------------------------------------------------------------------------------------------


def isolation() -> ProbeReport:
    """Try every way out of a confined child, and out of an unsandboxed control."""
    from fluxctx.confined.probe import run_probe

    return run_probe()


# --- doctor ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of `doctor`."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def doctor(runtime: Runtime) -> list[Check]:
    """Look at this machine; a red line has a hint."""
    places = runtime.places
    free = shutil.disk_usage(wiring.nearest(places.data)).free
    running = timer_state(runtime)
    kind = wiring.file_system_of(places.state)
    old_blocks = wiring.storage_warnings(places)
    return [
        Check(name="python", ok=sys.version_info >= (3, 11), detail=sys.version.split()[0]),
        *[Check(name=name, ok=True, detail=version(name)) for name in ("torch", "diffusers", "transformers")],
        Check(
            name="disk",
            ok=free > 1 << 30,
            detail=f"{free >> 20} MiB free",
            hint="make room; purge works on a full disk",
        ),
        Check(
            name="file system",
            ok=not old_blocks,
            detail=kind or "unknown",
            hint="; ".join(m for _, m in old_blocks),
        ),
        Check(
            name="home",
            ok=private(places),
            detail="0700" if private(places) else "open to others",
            hint="chmod 700",
        ),
        Check(
            name="timer", ok=running.installed, detail=running.detail, hint="fluxctx sweep --install-timer"
        ),
        guarded("sandbox", sandbox_detail, hint="fluxctx doctor --isolation"),
        guarded(
            "model",
            lambda: f"starter {runtime.catalog().verify('starter', full=True).sha256[:12]}",
            hint="reinstall",
        ),
        guarded("policy", lambda: policy_detail(runtime), hint="reinstall fluxctx"),
    ]


def guarded(name: str, look: Callable[[], str], *, hint: str) -> Check:
    """A look that may fail; its error is the detail."""
    try:
        return Check(name=name, ok=True, detail=look())
    except FluxctxError as error:
        return Check(name=name, ok=False, detail=error.message, hint=error.hint or hint)


def sandbox_detail() -> str:
    """Which layers hold, told by a child that was confined just now."""
    from dataclasses import asdict

    from fluxctx.confined.spawn import Grants, spawn

    with spawn("fluxctx.confined.attempts", grants=Grants()) as child:
        layers = asdict(child.ready())
    return ", ".join(f"{name}={value}" for name, value in layers.items() if value)


def policy_detail(runtime: Runtime) -> str:
    facts = runtime.policy().describe()
    return f"{facts['id']} revision {facts['revision']}, profile {facts['profile']}"


def private(places: Any) -> bool:
    """Whether no other user can look into the home's folders."""
    folders = [path for path in (places.data, places.state, places.config) if path.exists()]
    return all(path.stat().st_mode & 0o077 == 0 for path in folders)


# --- timer ----------------------------------------------------------------------------------------------------


def home_of(runtime: Runtime) -> tuple[list[str], Path]:
    """The `--home` to pass on, and what names the timer."""
    places = runtime.places
    if places.data.name == "data" and places.data.parent == places.state.parent:
        return ["--home", str(places.data.parent)], places.data.parent
    return [], places.data


def timer_state(runtime: Runtime) -> timer.TimerState:
    return timer.state(home_of(runtime)[1], Path.home())


def install_timer(runtime: Runtime) -> dict[str, Any]:
    """Make the sweep run by itself, or say why not."""
    argument, home = home_of(runtime)
    state = timer.install(argument, home, Path.home())
    return {"installed": state.installed, "detail": state.detail}


def remove_timer(runtime: Runtime) -> dict[str, Any]:
    removed = timer.remove(home_of(runtime)[1], Path.home())
    return {"removed": removed, "detail": "removed" if removed else "there was none"}


# --- items, ledger, dry run -----------------------------------------------------------------------------------


def lifecycle_of(runtime: Runtime, item: Item, metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each step of an item's life, with the time that the ledger or the vault has for it."""
    recipe = metadata.get("recipe") or {}
    made = utc(item.created_at)
    steps: list[dict[str, Any]] = [
        {"step": "upload", "at": made, "detail": f"sealed as {upload[:6]}, purged with this item"}
        for upload in recipe.get("uploads", [])
    ]
    if recipe:
        policy, runtime_facts = recipe["policy"], recipe["runtime"]
        device = f"{runtime_facts.get('device', '?')}, {runtime_facts.get('dtype', '?')}"
        steps += [
            {
                "step": "policy",
                "at": utc(item.created_at),
                "detail": f"request {policy['input']}, result {policy['output']}",
            },
            {
                "step": "inference",
                "at": utc(item.created_at),
                "detail": f"{recipe['model']['name']} on {device}, confined",
            },
        ]
    steps.append(
        {"step": "sealed", "at": utc(item.created_at), "detail": "AES-256-GCM under a key of its own"}
    )
    for entry in ledger_entries(runtime, None):
        if entry["clear"].get("item") == item.id and entry["event"] in {"copied-out", "retained"}:
            steps.append(
                {"step": entry["event"], "at": entry["at"], "detail": f"ledger entry {entry['seq']}"}
            )
    steps.append({"step": "deleted", "at": utc(item.expires_at), "detail": "by itself: the key is destroyed"})
    return steps


def ledger_entries(runtime: Runtime, limit: int | None) -> list[dict[str, Any]]:
    """The newest entries, or all of them."""
    ledger = runtime.ledger()
    size = ledger.head().size
    first = max(0, size - limit) if limit else 0
    return [
        {"seq": entry.seq, "event": entry.event, "at": utc(entry.at), "clear": dict(entry.clear)}
        for entry in ledger.entries(first - 1, size)
    ]


def verify_ledger(runtime: Runtime, checkpoint: str | None) -> dict[str, Any]:
    """Recompute the tree; with an older checkpoint also prove that nothing was rewritten since."""
    older = Path(checkpoint).read_text(encoding="utf-8") if checkpoint else None
    ledger = runtime.ledger()
    signed = ledger.checkpoint()
    ledger.verify(older, bodies=True)
    return {"entries": ledger.head().size, "checkpoint": signed}


def dry_run(runtime: Runtime, request: GenerationRequest) -> dict[str, Any]:
    """What would be done, decided by the same functions, without loading anything."""
    model = runtime.engine().find(request.model)
    retention = wiring.open_admission(runtime).admit(runtime.require_account(), request, model)
    verdict = runtime.policy().check_text({"prompt": request.prompt})
    images: dict[str, list[RawImage]] = {}
    for upload in request.uploads:
        images.setdefault(upload.role, []).append(runtime.media().decode(upload))
    job = runtime.engine().plan(request, model, runtime.job_id(), images)
    return {
        "plan": {
            "model": model.name,
            "licence": model.licence,
            "workflow": str(job.workflow),
            "render_size": str(job.render_size),
            "size": str(runtime.engine().output_size(request, model)),
            "steps": job.steps,
            "guidance": job.guidance,
            "seeds": list(job.seeds),
            "device": job.device,
            "dtype": job.dtype,
            "policy": str(verdict.action),
            "retention_limit_days": retention.days,
        }
    }


def dry_run_lines(plan: Mapping[str, Any]) -> list[str]:
    return [f"{name.replace('_', ' '):<21} {value}" for name, value in plan["plan"].items()]
