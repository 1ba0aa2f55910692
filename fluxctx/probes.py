"""The probes behind `trust`: each promise is tried now, on this installation, and says what it saw."""

from __future__ import annotations

import ast
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fluxctx
from fluxctx import wiring
from fluxctx.compliance.trust import Line, Seen, measure
from fluxctx.domain import (
    Action,
    GenerationRequest,
    Item,
    ItemKind,
    NewItem,
    RawImage,
    Size,
    VaultId,
    Workflow,
    utc,
)
from fluxctx.errors import AccountNotFound, ItemGone, ItemNotFound, PlanForbids, WrongPassphrase
from fluxctx.inspection import isolation, timer_state

if TYPE_CHECKING:
    from fluxctx.confined.probe import ProbeReport
    from fluxctx.runtime import Runtime
    from fluxctx.vault.store import Vault


def trust(runtime: Runtime, flags: Collection[str], *, only: Collection[str] | None = None) -> list[Line]:
    """Measure every promise; nothing here is a constant or a setting."""
    report = Cached(lambda: isolation())
    probes: dict[str, Callable[[], Seen]] = {
        "P1": lambda: inference_only(report()),
        "P2": lambda: no_training(runtime),
        "P3": lambda: no_feedback(report()),
        "P4": lambda: auto_deletion(runtime),
        "P5": lambda: encrypted_storage(runtime),
        "P6": lambda: no_opt_out(flags),
        "P7": lambda: plans_limit(),
        "P8": lambda: policy_enforced(runtime),
        "P9": lambda: terms_in_force(runtime),
        "P10": lambda: owner_alone(runtime),
        "P12": lambda: in_control(runtime),
    }
    return measure(probes, only=only)


class Cached:
    """A probe that two promises share runs once."""

    def __init__(self, probe: Callable[[], ProbeReport]) -> None:
        self._probe = probe
        self._report: ProbeReport | None = None

    def __call__(self) -> ProbeReport:
        if self._report is None:
            self._report = self._probe()
        return self._report


def tried(report: ProbeReport, groups: set[str]) -> tuple[int, int, bool]:
    """(refused, tried, all refused and seen by the control) for some kinds of attempt."""
    of = [attempt for attempt in report.attempts if attempt.group in groups]
    refused = sum(attempt.refused for attempt in of)
    mandatory = all(attempt.refused for attempt in of if attempt.mandatory)
    return refused, len(of), mandatory and not report.blind and not report.hits


def inference_only(report: ProbeReport) -> Seen:
    refused, total, good = tried(report, {"network", "write", "read", "process"})
    through = f"; got through: {', '.join(report.through)}" if report.through else ""
    evidence = (
        f"{refused} of {total} ways out of a confined child refused now, the control got through{through}"
    )
    return Seen(state="kept" if good else "not kept", evidence=evidence)


def no_feedback(report: ProbeReport) -> Seen:
    refused, total, good = tried(report, {"network"})
    reached = f"{len(report.hits)} of {report.listeners} listeners reached"
    evidence = f"{refused} of {total} network attempts refused, {reached}"
    return Seen(state="kept" if good and refused == total else "not kept", evidence=evidence)


def no_training(runtime: Runtime) -> Seen:
    """No training call in the installed package, the weights as recorded, the assertion in a copy made now."""
    calls = training_calls(Path(fluxctx.__file__).parent)
    runtime.catalog().verify("starter", full=True)
    grey = RawImage(width_px=8, height_px=8, channels=3, pixels=bytes(192))
    stored = runtime.media().encode(grey, size=Size(width_px=8, height_px=8))
    marks = wiring.marks("none", None, edited=False)
    copy = runtime.media().mark_copy(stored.original, stored.mime, fmt="png", marks=marks)
    asserted = "PROHIBITED" in str(runtime.media().inspect(copy)["marks"]["xmp"])
    good = not calls and asserted
    evidence = (
        f"{len(calls)} training calls in the package; weights as recorded; assertion in a copy: {asserted}"
    )
    return Seen(state="kept" if good else "not kept", evidence=evidence)


TRAINING_NAMES = frozenset({"backward", "AdamW", "Adam", "SGD", "GradScaler", "zero_grad"})


def training_calls(package: Path) -> list[str]:
    """Every call in the package's own source that trains: `x.backward()`, an optimiser, `torch.optim`."""
    found = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func if isinstance(node, ast.Call) else None
            called = getattr(name, "attr", getattr(name, "id", ""))
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if called in TRAINING_NAMES or any("torch.optim" in one for one in (*imported, module)):
                found.append(f"{path.name}:{getattr(node, 'lineno', 0)}")
    return found


@contextmanager
def scratch_vault(runtime: Runtime) -> Iterator[tuple[Any, Vault, bytes]]:
    """A real vault beside the others, opened by a random key file, gone afterwards; (paths, vault, its secret)."""
    from fluxctx.vault import unlocking
    from fluxctx.vault.crypto import RFC_9106_LOW_MEMORY
    from fluxctx.vault.paths import VaultPaths
    from fluxctx.vault.store import create_vault, open_vault

    root = runtime.places.state / f"probe-{secrets.token_hex(8)}"
    wiring.private_directory(root)
    paths = VaultPaths(data=root / "data", state=root / "keys")
    secret = secrets.token_bytes(32)
    key = unlocking.key_file(secret)
    try:
        create_vault(paths, VaultId(secrets.token_hex(16)), key, kdf=RFC_9106_LOW_MEMORY, now=runtime.now())
        with open_vault(paths, key, now=runtime.now()) as vault:
            yield paths, vault, secret
    finally:
        shutil.rmtree(root, ignore_errors=True)


def canary(runtime: Runtime, words: str, *, lives: timedelta) -> NewItem:
    return NewItem(
        kind=ItemKind.IMAGE,
        mime="image/png",
        expires_at=runtime.now() + lives,
        parts={"original": words.encode(), "thumbnail": words.encode()},
        metadata={"recipe": {"prompt": words}},
    )


def auto_deletion(runtime: Runtime) -> Seen:
    """An item of a scratch vault dies by a sweep without a key; and something runs the sweep on this machine."""
    from fluxctx.vault.sweep import sweep

    with scratch_vault(runtime) as (paths, vault, _):
        (item,) = vault.put([canary(runtime, "canary", lives=timedelta(seconds=30))], now=runtime.now())
        later = runtime.now() + timedelta(seconds=60)
        swept = sweep(paths, now=later, running_s=runtime.running_s())
        gone = opens(vault, item, runtime) is None
        blobs = list(paths.every_blob())
    good = gone and len(swept.deaths) == 1 and not blobs
    running = timer_state(runtime)
    evidence = f"a canary's key was destroyed without the passphrase: {good}; timer: {running.detail}"
    return Seen(state="not kept" if not good else "kept" if running.installed else "amber", evidence=evidence)


def opens(vault: Vault, item: Item, runtime: Runtime) -> bytes | None:
    """The item's bytes, or None once they are gone for good."""
    try:
        return vault.read(item.id, now=runtime.now())
    except (ItemGone, ItemNotFound):
        return None


def encrypted_storage(runtime: Runtime) -> Seen:
    """A canary's words stand in no file of a scratch vault, and a flipped bit opens nothing."""
    words = "canary " + secrets.token_hex(16)
    with scratch_vault(runtime) as (paths, vault, _):
        (item,) = vault.put([canary(runtime, words, lives=timedelta(minutes=5))], now=runtime.now())
        files = [path for path in (*paths.data.rglob("*"), *paths.state.rglob("*")) if path.is_file()]
        hits = sum(words.encode() in path.read_bytes() for path in files)
        opened = opens(vault, item, runtime) == words.encode()
        loose = sum(path.stat().st_mode & 0o077 != 0 for path in files)
    good = opened and not hits and not loose
    evidence = f"{hits} of {len(files)} files of a scratch vault hold a canary's words; {loose} are readable by others"
    return Seen(state="kept" if good else "not kept", evidence=evidence)


def no_opt_out(flags: Collection[str]) -> Seen:
    """No setting and no flag has a name that switches a protection."""
    from fluxctx.config import SETTINGS

    words = (
        "encrypt",
        "plaintext",
        "unsafe",
        "sandbox",
        "confine",
        "no-policy",
        "no-filter",
        "no-mark",
        "telemetry",
    )
    names = [*flags, *(setting.key for setting in SETTINGS)]
    found = [name for name in names if any(word in name for word in words)]
    evidence = f"{len(names)} flags and settings, {len(found)} of them name a protection"
    return Seen(state="kept" if not found else "not kept", evidence=evidence)


def plans_limit() -> Seen:
    """The smallest plan refuses what the largest allows."""
    from fluxctx.accounts.plans import check_request, packaged_plans

    plans = packaged_plans()
    asked = GenerationRequest(workflow=Workflow.TEXT_TO_IMAGE, prompt="x", seeds=tuple(range(10_000)))
    refused = 0
    for plan in plans.values():
        try:
            check_request(plan, asked, wiring.open_catalog_starter())
        except PlanForbids:
            refused += 1
    evidence = f"{refused} of {len(plans)} plans refused a request for 10,000 pictures"
    return Seen(state="kept" if refused == len(plans) else "not kept", evidence=evidence)


def policy_enforced(runtime: Runtime) -> Seen:
    """The policy in force blocks a request of a locked category and lets an apple pass."""
    blocked = runtime.policy().check_text({"prompt": "forged passport template with my photo"})
    allowed = runtime.policy().check_text({"prompt": "a red apple"})
    good = blocked.action is Action.BLOCK and allowed.action is Action.ALLOW
    evidence = f"policy {blocked.policy_id} revision {blocked.policy_revision}: "
    evidence += f"a forged document {blocked.action}, an apple {allowed.action}"
    return Seen(state="kept" if good else "not kept", evidence=evidence)


def terms_in_force(runtime: Runtime) -> Seen:
    """The account accepted the terms in force, and one without acceptance is refused."""
    from fluxctx.accounts.admission import check_terms
    from fluxctx.accounts.terms import current_terms

    terms = current_terms()
    try:
        account = runtime.open_account(unlock=False)
    except AccountNotFound:
        return Seen(state="amber", evidence=f"terms {terms.version}; no account here yet")
    check_terms(runtime.registry().record(account.id), terms)
    return Seen(state="kept", evidence=f"terms {terms.version} accepted {utc(account.terms_accepted_at)}")


def owner_alone(runtime: Runtime) -> Seen:
    """Another secret, and another vault's, opens nothing."""
    from fluxctx.vault import unlocking
    from fluxctx.vault.store import open_vault

    with scratch_vault(runtime) as (paths, _, _), scratch_vault(runtime) as (_, _, other):
        refused = 0
        for wrong in (other, secrets.token_bytes(32)):
            try:
                open_vault(paths, unlocking.key_file(wrong), now=runtime.now()).close()
            except WrongPassphrase:
                refused += 1
    evidence = f"{refused} of 2 foreign keys refused by a scratch vault"
    return Seen(state="kept" if refused == 2 else "not kept", evidence=evidence)


def in_control(runtime: Runtime) -> Seen:
    """A purge without a passphrase question makes an item unreadable and removes its files."""
    with scratch_vault(runtime) as (paths, vault, _):
        (item,) = vault.put([canary(runtime, "canary", lives=timedelta(minutes=5))], now=runtime.now())
        vault.purge([item.id], now=runtime.now())
        good = opens(vault, item, runtime) is None and not list(paths.every_blob())
    evidence = f"purge of a canary final: {good}; export: yes; account deletion: not part of this version yet"
    return Seen(state="amber" if good else "not kept", evidence=evidence)
