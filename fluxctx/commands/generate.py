"""`fluxctx generate`: text to image; with --image an edit in context, with --strength image to image."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fluxctx.commands import options
from fluxctx.commands.base import Session, single
from fluxctx.commands.report import Reporter, closing_lines, output_row
from fluxctx.config import parse_duration
from fluxctx.domain import GenerationRequest, Output, Workflow
from fluxctx.errors import InvalidRequest, SomeFailed, UsageError


def generate(
    session: Session,
    prompt: options.Prompt = None,
    model: options.Model = None,
    image: options.Images = None,
    mask: options.Mask = None,
    strength: options.Strength = None,
    negative_prompt: options.Negative = "",
    size: options.SizeText = None,
    width: options.Width = None,
    height: options.Height = None,
    aspect: options.Aspect = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    scheduler: options.Scheduler = None,
    seed: options.Seeds = None,
    count: options.Count = 1,
    output: options.Output = None,
    force: options.Force = False,
    retain: options.Retain = None,
    tag: options.Tags = None,
    metadata: options.Metadata = "minimal",
    preview: options.PreviewMode = "auto",
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Store nothing, not even a row.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; load nothing.")] = False,
    prompt_file: Annotated[
        str | None, typer.Option(help="Read the prompt from a file.", metavar="FILE")
    ] = None,
    edit_prompt: Annotated[
        bool, typer.Option("--edit-prompt", help="Write the prompt in $EDITOR, in memory.")
    ] = False,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="Accept the acceptable-use terms.")
    ] = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    strict: Annotated[bool, typer.Option("--strict", help="Hash every model file before use.")] = False,
    timeout: options.Timeout = None,
) -> None:
    """Make pictures from a prompt and seal them into the vault.

    Without --output nothing readable is written: the picture goes to the vault.

    Exits 3 if policy, plan or terms refuse, 4 without the passphrase, 5 if the model is unknown, 8 if some failed.

    Example: fluxctx generate "a red apple" --seed 7 -o apple.png
    """
    text = options.read_prompt(session, prompt, prompt_file, edit_prompt)
    check_flags(metadata, preview, ephemeral, output)
    total = max(count, len(seed or []))
    paths = options.output_paths(output, total, force=force)
    request = GenerationRequest(
        workflow=workflow_of(uploads=bool(image), mask=bool(mask), strength=strength),
        prompt=text,
        negative_prompt=negative_prompt or "",
        model=model or str(session.config.get("model")),
        size=options.read_size(size, width, height, aspect),
        steps=steps,
        guidance=guidance,
        strength=strength,
        scheduler=scheduler,
        seeds=options.read_seeds(seed, total),
        retain=options.read_retention(retain, session),
        tags=options.read_tags(tag),
        ephemeral=ephemeral,
        device=options.choice(device, session, "device"),
        dtype=options.choice(dtype, session, "dtype"),
        strict=strict,
    )
    with session.runtime(
        accept_terms=accept_terms, timeout=parse_duration(timeout) if timeout else None
    ) as runtime:
        runtime.check_model(request)  # before a passphrase is asked for or an account is made
        runtime.open_account(create=True, ephemeral=ephemeral or dry_run)
        references = [("image", reference) for reference in image or []] + ([("mask", mask)] if mask else [])
        uploads = tuple(options.read_upload(role, reference, runtime) for role, reference in references)
        request = replace(request, uploads=uploads)
        if dry_run:
            from fluxctx import inspection

            plan = inspection.dry_run(runtime, request)
            session.console.done(plan, inspection.dry_run_lines(plan))
            return
        run(
            session,
            runtime,
            request,
            paths=paths,
            output=output,
            force=force,
            metadata=metadata,
            preview=preview,
        )


def run(
    session: Session,
    runtime: Any,
    request: GenerationRequest,
    *,
    paths: list[Path] | None,
    output: str | None,
    force: bool,
    metadata: str,
    preview: str,
) -> None:
    """Call the flow, let copies out, print; `edit` and `rerun` end here too."""
    started = time.monotonic()
    copies = Copies(runtime, request, paths=paths, to_stdout=output == "-", force=force, metadata=metadata)
    reporter = Reporter(session.console, copies=copies)
    reporter.encode_preview = runtime.encode_preview
    runtime.start(request)
    outputs = runtime.generate(request, reporter)
    elapsed = round(time.monotonic() - started, 3)
    rows = [output_row(item, copies.path_of(item)) for item in outputs]
    if output != "-":
        ids = [str(item.id) for item in outputs if item.id]
        session.console.done({"outputs": rows, "elapsed_s": elapsed}, ids)
    if session.console.mode == "text" and output != "-" and preview != "none":
        from fluxctx.commands.pictures import show_inline

        for item in outputs:
            show_inline(session, runtime, item.content, preview)
    for line in closing_lines(outputs, copies.paths):
        session.console.note(line)
    if reporter.refused:
        raise SomeFailed(
            f"{reporter.refused} of {reporter.refused + len(outputs)} outputs were refused by policy",
            hint="the others are kept",
        )


class Copies:
    """Writes the decrypted copy of each output as it arrives, to its path or to stdout."""

    def __init__(
        self,
        runtime: Any,
        request: GenerationRequest,
        *,
        paths: Any,
        to_stdout: bool,
        force: bool,
        metadata: str,
    ) -> None:
        self.runtime, self.request = runtime, request
        self.targets, self.to_stdout, self.force, self.metadata = paths, to_stdout, force, metadata
        self.paths: dict[int, Path] = {}

    def take(self, output: Output) -> None:
        from fluxctx.lifecycle import write_copy

        if self.targets is None and not self.to_stdout:
            return
        target = self.targets[output.index] if self.targets else None
        fmt = options.copy_format(target) if target else "png"
        copy = self.runtime.copy_out(
            output, fmt=fmt, metadata=self.metadata, edited=bool(self.request.uploads)
        )
        if target is None:
            sys.stdout.buffer.write(copy.content)
            sys.stdout.buffer.flush()
        else:
            write_copy(target, copy.content, force=self.force)
            self.paths[output.index] = target

    def path_of(self, output: Output) -> str | None:
        path = self.paths.get(output.index)
        return str(path) if path else None


def workflow_of(*, uploads: bool, mask: bool, strength: float | None) -> Workflow:
    """--mask inpaints, --strength redraws, --image alone edits in context."""
    if mask and not uploads:
        raise InvalidRequest("--mask needs --image", hint="give the picture that the mask belongs to")
    if strength is not None and not uploads:
        raise InvalidRequest("--strength needs --image", hint="give the picture to start from")
    if strength is not None and not 0 < strength <= 1:
        raise InvalidRequest("--strength must be above 0 and at most 1", hint="0.6 keeps the rough shape")
    if mask:
        return Workflow.INPAINT
    if uploads:
        return Workflow.IMAGE_TO_IMAGE if strength is not None else Workflow.EDIT
    return Workflow.TEXT_TO_IMAGE


def check_flags(metadata: str, preview: str, ephemeral: bool, output: str | None) -> None:
    """Refuse what contradicts itself before a passphrase is asked for."""
    if metadata not in {"none", "minimal", "full"}:
        raise InvalidRequest(
            "--metadata is none, minimal or full", hint="minimal says AI-made and not for training"
        )
    if preview not in {"auto", "none", "kitty", "iterm2", "sixel", "blocks"}:
        raise InvalidRequest("unknown --preview", hint="auto, none, kitty, iterm2, sixel or blocks")
    if ephemeral and output is None and preview == "none":
        raise UsageError("an ephemeral picture that goes nowhere", hint="add --output PATH or --output -")


app = single(generate)
