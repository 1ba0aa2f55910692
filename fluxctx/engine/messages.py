"""What the two sides say to each other; what comes back is checked and never believed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fluxctx.domain import Phase, Progress, RawImage, Rendered, RenderJob
from fluxctx.engine.catalog import Entry
from fluxctx.engine.placement import Placement
from fluxctx.errors import EngineFailed, FluxctxError, OutOfMemory

IDENTIFIER = re.compile(r"[A-Za-z0-9_.:<>-]{1,80}")


# --- what goes to the worker --------------------------------------------------------------------------


def job_head(job: RenderJob, entry: Entry, placement: Placement) -> dict[str, Any]:
    """The render frame's head."""
    return {
        "pipeline": entry.pipelines[job.workflow],
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "width_px": job.render_size.width_px,
        "height_px": job.render_size.height_px,
        "steps": job.steps,
        "guidance": job.guidance,
        "guidance_parameter": entry.guidance,
        "strength": job.strength,
        "seeds": list(job.seeds),
        "images": [about(image) for image in job.images],
        "mask": about(job.mask) if job.mask else None,
        "max_prompt_tokens": entry.model.max_prompt_tokens,
        "preview": job.preview,
        "tiling": placement.tiling,
    }


def job_pixels(job: RenderJob) -> bytes:
    """References, then the mask, end to end."""
    return b"".join(image.pixels for image in (*job.images, *((job.mask,) if job.mask else ())))


def about(image: RawImage) -> dict[str, int]:
    """A picture without its pixels."""
    return {"width_px": image.width_px, "height_px": image.height_px, "channels": image.channels}


# --- what comes back: checked, never believed ---------------------------------------------------------


def read_phase(head: Mapping[str, Any]) -> Phase | None:
    """One of the phases a worker may announce."""
    name = head.get("name")
    return Phase(name=name) if name in ("load", "encode", "denoise", "decode") else None


def read_progress(head: Mapping[str, Any], pictures: int) -> Progress | None:
    """Steps done and, from them and the time taken, speed and what is left; None for nonsense."""
    index, step, steps, elapsed_s = (head.get(key) for key in ("index", "step", "steps", "elapsed_s"))
    whole = all(type(number) is int for number in (index, step, steps))
    if not whole or not isinstance(elapsed_s, float) or not (0 <= index < pictures and 1 <= step <= steps):  # type: ignore[operator]
        return None
    it_per_s = step / max(elapsed_s, 1e-6)  # type: ignore[operator]
    eta_s = (steps - step) / it_per_s  # type: ignore[operator]
    return Progress(index=index, step=step, steps=steps, it_per_s=it_per_s, eta_s=eta_s)  # type: ignore[arg-type]


def read_result(
    head: Mapping[str, Any], blob: bytes, index: int, seed: int, job: RenderJob, layers: Mapping[str, Any]
) -> Rendered:
    """A picture of exactly the size and seed that was asked for; raises EngineFailed for anything else."""
    size = job.render_size
    expected = {"index": index, "seed": seed, "width_px": size.width_px, "height_px": size.height_px}
    if (
        any(head.get(key) != value for key, value in expected.items())
        or len(blob) != size.width_px * size.height_px * 3
    ):
        raise EngineFailed("the worker sent a picture that was not asked for", hint="please report this")
    runtime = head.get("runtime")
    facts = plain_facts(runtime if isinstance(runtime, dict) else {})
    attestation = plain_facts(runtime.get("attestation", {}) if isinstance(runtime, dict) else {})
    return Rendered(
        index=index,
        seed=seed,
        image=RawImage(width_px=size.width_px, height_px=size.height_px, channels=3, pixels=blob),
        runtime={**facts, "attestation": {**attestation, "layers": dict(layers)}},
    )


def plain_facts(table: object) -> dict[str, str | int | float | bool]:
    """Short plain values under plain names; nothing that could carry a prompt's length of text."""
    if not isinstance(table, dict):
        return {}
    return {
        key: value
        for key, value in list(table.items())[:32]
        if IDENTIFIER.fullmatch(key)
        and (isinstance(value, int | float | bool) or (isinstance(value, str) and len(value) <= 80))
    }


def failure(head: Mapping[str, Any], what: str) -> FluxctxError:
    """Turn the worker's code into the exact error; its own words are class and place only."""
    kind, where = (
        str(head.get(key)) if IDENTIFIER.fullmatch(str(head.get(key))) else "unknown"
        for key in ("kind", "where")
    )
    if head.get("code") == "memory":
        return OutOfMemory(
            "memory ran out", hint="choose a smaller --size, another --dtype or a smaller model"
        )
    if head.get("code") == "pixels":
        return EngineFailed("the model made no picture but numbers out of range", hint="try --dtype float32")
    return EngineFailed(
        f"the model {what} ({kind} at {where})", hint="`fluxctx models verify` checks its files"
    )
