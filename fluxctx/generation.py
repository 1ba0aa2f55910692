"""The flow: one request, once, in one direction.  The command line, batch, HTTP and the page all call this.

    account -> sweep -> policy on what came in -> uploads sealed -> engine -> policy on pixels -> vault -> ledger

Every room is a Protocol written here, beside its caller; runtime.py hands in the real ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from fluxctx import __version__
from fluxctx.domain import (
    DEFAULT_RETENTION,
    Account,
    Action,
    Encoded,
    Event,
    GenerationRequest,
    InstalledModel,
    Item,
    ItemId,
    ItemKind,
    JobId,
    NewItem,
    Output,
    OutputRefused,
    Phase,
    Preview,
    RawImage,
    Rendered,
    RenderJob,
    Size,
    SweepResult,
    Upload,
    Verdict,
)
from fluxctx.errors import PolicyRefused

OnEvent = Callable[[Event], None]


class Accounts(Protocol):
    """Who may do what (P7, P9)."""

    def admit(self, account: Account, request: GenerationRequest, model: InstalledModel) -> timedelta:
        """Return the longest retention this account may use.

        Raises AccountNotActive, TermsNotAccepted, PlanForbids.
        """


class Policy(Protocol):
    """What may be asked for and shown (P8): the same input and bundle give the same verdict."""

    def check_text(self, fields: Mapping[str, str]) -> Verdict:
        """Judge every text field of a request, each and all together; raises PolicyDamaged."""

    def check_image(self, image: RawImage, *, stage: str) -> Verdict:
        """Judge pixels; `stage` is "upload", "preview" or "output"."""


class Engine(Protocol):
    """The sandboxed worker, seen from outside (P1, P2, P3)."""

    def find(self, name: str) -> InstalledModel:
        """Look a model up by name or alias; raises ModelNotFound."""

    def plan(
        self,
        request: GenerationRequest,
        model: InstalledModel,
        job_id: JobId,
        images: Mapping[str, Sequence[RawImage]],
    ) -> RenderJob:
        """Resolve defaults and check what the model can do, before anything is loaded; raises InvalidRequest."""

    def output_size(self, request: GenerationRequest, model: InstalledModel) -> Size:
        """Say how large the stored picture is; larger than the render size means enlarged, and said so."""

    def render(
        self, job: RenderJob, model: InstalledModel, on_event: OnEvent
    ) -> AbstractContextManager[Iterator[Rendered]]:
        """Yield one result a seed; leaving the context early ends the worker within a second."""


class Media(Protocol):
    """The keyless child that touches encoded bytes and pixels."""

    def decode(self, upload: Upload) -> RawImage:
        """Raises MediaInvalid."""

    def encode(self, image: RawImage, *, size: Size) -> Encoded:
        """Encode the picture at `size` (PNG) and its thumbnail."""


class Vault(Protocol):
    """Sealed storage that dies on time (P4, P5)."""

    def put(self, items: Sequence[NewItem], *, now: datetime) -> list[Item]:
        """Seal several items in one group commit; on return they survive a power cut."""

    def purge(self, ids: Sequence[ItemId], *, now: datetime, reason: str) -> Sequence[object]:
        """Destroy their keys; on return nobody can open these items again."""


class Ledger(Protocol):
    """The account's append-only record (P10)."""

    def append(self, event: str, *, at: datetime, clear: Mapping[str, Any], sealed: Mapping[str, Any]) -> int:
        """Add one entry: `clear` holds random ids and rule names; all else is committed to and sealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The real rooms (or a test's honest fakes), the account, the clock and the job's id.

    `vault` is None only where the request is ephemeral.
    """

    account: Account
    accounts: Accounts
    policy: Policy
    engine: Engine
    media: Media
    vault: Vault | None
    ledger: Ledger
    sweep: Callable[[], SweepResult]
    now: Callable[[], datetime]
    job_id: JobId
    previews: bool = False  # whether anybody looks at partial pictures


def generate(request: GenerationRequest, parts: Parts, on_event: OnEvent) -> list[Output]:
    """Make what is asked for, or refuse it with a reason; nothing is ever half stored.

    Returns the outputs that were kept.  A refused one of several is an OutputRefused event; if all are
    refused, PolicyRefused is raised.  Raises every other class of errors.py that says why.
    """
    model = parts.engine.find(request.model)
    longest = parts.accounts.admit(parts.account, request, model)  # 1. account, terms, plan
    parts.sweep()  # 2. what has expired goes first
    on_event(Phase(name="policy"))
    asked = admit_text(request, parts)  # 3. policy on what came in
    images = admit_uploads(request, parts)
    job = replace(parts.engine.plan(request, model, parts.job_id, images), preview=parts.previews)
    expires_at = parts.now() + retention(request, longest)
    uploads = seal_uploads(request, parts, expires_at)  # 4. uploads die with the last of their outputs
    outputs: list[Output] = []
    refusals: list[PolicyRefused] = []
    try:
        with parts.engine.render(
            job, model, past_policy(parts, on_event)
        ) as results:  # 5. no network, no key
            for rendered in results:
                try:
                    verdict = admit_pixels(
                        rendered.image, parts, stage="output"
                    )  # 6. else never shown nor stored
                except PolicyRefused as refusal:
                    refusals.append(refusal)
                    on_event(refused_output(rendered.index, refusal))
                    continue
                on_event(Phase(name="seal"))
                size = parts.engine.output_size(request, model)
                encoded = parts.media.encode(rendered.image, size=size)
                recipe = write_recipe(request, model, job, rendered, (asked, verdict), uploads, encoded)
                output = keep(
                    encoded, recipe, rendered, request, expires_at, parts
                )  # 7. the vault, 8. the ledger
                outputs.append(output)
                on_event(output)
    finally:
        if uploads and not outputs and parts.vault is not None:
            parts.vault.purge(uploads, now=parts.now(), reason="no output")
    if refusals and not outputs:
        raise refusals[0]
    return outputs


# --- 3. policy on what came in ------------------------------------------------------------------------


def admit_text(request: GenerationRequest, parts: Parts) -> Verdict:
    """Judge prompt, negative prompt and tags; a refusal leaves a ledger entry without the text."""
    fields = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    fields |= {
        f"tag:{position}": f"{key} {value}" for position, (key, value) in enumerate(request.tags.items())
    }
    verdict = parts.policy.check_text({name: text for name, text in fields.items() if text})
    return enforce(verdict, "input", parts)


def admit_uploads(request: GenerationRequest, parts: Parts) -> dict[str, list[RawImage]]:
    """Decode every upload in the keyless child and judge its pixels; returns pictures by role."""
    images: dict[str, list[RawImage]] = {}
    for upload in request.uploads:
        image = parts.media.decode(upload)
        admit_pixels(image, parts, stage="upload")
        images.setdefault(upload.role, []).append(image)
    return images


def admit_pixels(image: RawImage, parts: Parts, *, stage: str) -> Verdict:
    """Judge pixels; raises PolicyRefused."""
    return enforce(parts.policy.check_image(image, stage=stage), stage, parts)


def enforce(verdict: Verdict, stage: str, parts: Parts) -> Verdict:
    """Let allow and log pass; block, and review on a machine without a reviewer, refuse."""
    if verdict.action is Action.ALLOW:
        return verdict
    worst = max(verdict.findings, key=lambda finding: (finding.locked, finding.score))
    facts: dict[str, Any] = {
        "job": parts.job_id,
        "stage": stage,
        "action": str(verdict.action),
        "rule": worst.rule,
    }
    facts |= {"category": worst.category, "policy_revision": verdict.policy_revision}
    parts.ledger.append("policy", at=parts.now(), clear=facts, sealed={})
    if verdict.action is Action.LOG:
        return verdict
    raise PolicyRefused(
        f"refused by policy: {worst.rule}",
        hint="`fluxctx policy check` shows what matched; the rules are listed by `fluxctx policy show`",
        details={
            "rule": worst.rule,
            "category": worst.category,
            "stage": stage,
            "action": str(verdict.action),
        },
    )


def past_policy(parts: Parts, on_event: OnEvent) -> OnEvent:
    """Wrap the caller's listener so that a preview is only seen after it passed the policy on pixels."""

    def listen(event: Event) -> None:
        if isinstance(event, Preview):
            verdict = parts.policy.check_image(event.image, stage="preview")
            if verdict.action not in (Action.ALLOW, Action.LOG):
                return
        on_event(event)

    return listen


def refused_output(index: int, refusal: PolicyRefused) -> OutputRefused:
    """Turn a refusal into the event that names its rule and category."""
    return OutputRefused(
        index=index, rule=str(refusal.details["rule"]), category=str(refusal.details["category"])
    )


# --- 4., 7. and 8. what is kept -----------------------------------------------------------------------


def retention(request: GenerationRequest, longest: timedelta) -> timedelta:
    """How long outputs live: what was asked (admission refused more than the plan allows), else the default."""
    return request.retain if request.retain is not None else min(DEFAULT_RETENTION, longest)


def seal_uploads(request: GenerationRequest, parts: Parts, expires_at: datetime) -> list[ItemId]:
    """Seal uploads that are not items already; they expire with their outputs."""
    fresh = [upload for upload in request.uploads if upload.source_item is None]
    if parts.vault is None or not fresh:
        return []
    items = [
        NewItem(
            kind=ItemKind.UPLOAD,
            mime="application/octet-stream",
            expires_at=expires_at,
            parts={"original": upload.content},
            metadata={"role": upload.role, "sha256": upload.sha256, "job": parts.job_id},
        )
        for upload in fresh
    ]
    return [item.id for item in parts.vault.put(items, now=parts.now())]


def keep(
    encoded: Encoded,
    recipe: dict[str, Any],
    rendered: Rendered,
    request: GenerationRequest,
    expires_at: datetime,
    parts: Parts,
) -> Output:
    """Seal one result with its thumbnail and recipe under a fresh key and enter it into the ledger."""
    item: Item | None = None
    if parts.vault is not None and not request.ephemeral:
        new = NewItem(
            kind=ItemKind.IMAGE,
            mime=encoded.mime,
            expires_at=expires_at,
            parts={"original": encoded.original, "thumbnail": encoded.thumbnail},
            metadata={"recipe": recipe, "tags": dict(request.tags), "job": parts.job_id},
        )
        (item,) = parts.vault.put([new], now=parts.now())
    sha256 = hashlib.sha256(encoded.original).hexdigest()
    clear: dict[str, Any] = {"job": parts.job_id} | ({"item": item.id} if item else {})
    facts = {
        "workflow": str(request.workflow),
        "model_sha256": recipe["model"]["sha256"],
        "output_sha256": sha256,
    }
    facts |= {"attestation": recipe["attestation"]}
    parts.ledger.append(
        "generated" if item else "generated-ephemeral", at=parts.now(), clear=clear, sealed=facts
    )
    return Output(
        index=rendered.index,
        id=item.id if item else None,
        mime=encoded.mime,
        width_px=encoded.width_px,
        height_px=encoded.height_px,
        seed=rendered.seed,
        sha256=sha256,
        expires_at=item.expires_at if item else None,
        content=encoded.original,
    )


def write_recipe(
    request: GenerationRequest,
    model: InstalledModel,
    job: RenderJob,
    rendered: Rendered,
    verdicts: tuple[Verdict, Verdict],
    uploads: Sequence[ItemId],
    encoded: Encoded,
) -> dict[str, Any]:
    """Everything needed to make the picture again, and the run's attestation; sealed with the item."""
    return {
        "schema": "fluxctx.recipe/1",
        "workflow": str(request.workflow),
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "model": {"name": model.name, "sha256": model.sha256, "licence": model.licence},
        "loras": [{"scale": lora.scale} for lora in request.loras],
        "inputs": [{"role": upload.role, "sha256": upload.sha256} for upload in request.uploads],
        "uploads": list(uploads),  # purged with the last output that was made from them
        "sources": [upload.source_item for upload in request.uploads if upload.source_item],
        "params": {
            "seed": rendered.seed,
            "steps": job.steps,
            "guidance": job.guidance,
            "strength": job.strength,
            "scheduler": job.scheduler,
            "render_size": str(job.render_size),
            "size": f"{encoded.width_px}x{encoded.height_px}",
        },
        "runtime": {
            "fluxctx": __version__,
            **{k: v for k, v in rendered.runtime.items() if k != "attestation"},
        },
        "attestation": rendered.runtime.get("attestation", {}),
        "output": {"pixels_sha256": encoded.pixels_sha256},
        "policy": {
            "id": verdicts[0].policy_id,
            "revision": verdicts[0].policy_revision,
            "input": str(verdicts[0].action),
            "output": str(verdicts[1].action),
        },
    }
