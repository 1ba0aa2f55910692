"""Turn the flow's events into progress for people and NDJSON for scripts."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fluxctx.console import Console
from fluxctx.domain import (
    Event,
    JobId,
    Output,
    OutputRefused,
    Phase,
    Preview,
    Progress,
    RawImage,
    Warned,
    utc,
)

SHORT_ID = 6


class Taker(Protocol):
    """Something that takes each output as it arrives."""

    def take(self, output: Output) -> None: ...
    def path_of(self, output: Output) -> str | None: ...


class Reporter:
    """The listener that generate, edit and batch hand to the flow."""

    def __init__(self, console: Console, *, copies: Taker, extra: Mapping[str, Any] | None = None) -> None:
        self.console, self.copies = console, copies
        self.extra = dict(extra or {})
        self.job: JobId | None = None
        self.refused = 0
        self.wants_previews = console.mode == "stream"
        self.encode_preview: Callable[[RawImage], bytes] | None = None

    def __call__(self, event: Event) -> None:
        fields: dict[str, Any] = {"job": self.job, **self.extra}
        match event:
            case Phase(name=name):
                self.console.phase(name)
                self.console.event("phase", **fields, name=name)
            case Progress():
                self.console.step(event.step, event.steps, event.it_per_s, event.eta_s)
                figures = {"it_per_s": round(event.it_per_s, 2), "eta_s": round(event.eta_s, 2)}
                self.console.event(
                    "progress", **fields, index=event.index, step=event.step, steps=event.steps, **figures
                )
            case Preview():
                if self.console.mode == "stream" and self.encode_preview is not None:
                    picture = base64.b64encode(self.encode_preview(event.image)).decode()
                    facts = {"partial_image_index": event.partial_image_index, "mime": "image/jpeg"}
                    self.console.event("preview", **fields, index=event.index, **facts, b64_json=picture)
            case Warned(code=code, message=message):
                self.console.warn(code, message)
            case OutputRefused():
                self.refused += 1
                details = {"rule": event.rule, "category": event.category}
                self.console.event(
                    "error", **fields, index=event.index, code="policy_refused", details=details
                )
                if self.console.mode == "text":
                    self.console.note(f"output {event.index}: refused by policy: {event.rule}")
            case Output():
                self.copies.take(event)
                row = output_row(event, self.copies.path_of(event))
                self.console.event("output", **fields, index=event.index, **row, sha256=event.sha256)


def output_row(output: Output, path: str | None) -> dict[str, Any]:
    """One entry of the envelope's `outputs`."""
    return {
        "id": output.id,
        "seed": output.seed,
        "width": output.width_px,
        "height": output.height_px,
        "mime": output.mime,
        "expires_at": utc(output.expires_at),
        "path": path,
    }


def closing_lines(outputs: Sequence[Output], paths: Mapping[int, Path]) -> list[str]:
    """What is kept, until when, and how to get a copy."""
    lines = []
    for output in outputs:
        copied = (
            f"copy: {paths[output.index]} (decrypted, marked as AI-generated)"
            if output.index in paths
            else ""
        )
        if output.id is None:
            lines.append(
                f"made with seed {output.seed}; nothing is stored" + (f". {copied}" if copied else "")
            )
            continue
        short = output.id[:SHORT_ID]
        end = output.expires_at.strftime("%Y-%m-%d") if output.expires_at else ""
        hint = copied or f"Copy: fluxctx export {short}"
        lines.append(f"saved {short} with seed {output.seed} (encrypted, deleted {end}). {hint}")
    return lines
