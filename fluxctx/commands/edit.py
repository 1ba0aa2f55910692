"""`fluxctx edit IMAGE PROMPT` is `generate PROMPT --image IMAGE`."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxctx.commands import options
from fluxctx.commands.base import Session, single
from fluxctx.commands.generate import generate

Picture = Annotated[str, typer.Argument(help="The picture: a file, an item id or @last.", show_default=False)]


def edit(
    session: Session,
    image: Picture,
    prompt: options.Prompt = None,
    model: options.Model = None,
    size: options.SizeText = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
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
        str | None, typer.Option(help="Read the instruction from a file.", metavar="FILE")
    ] = None,
    edit_prompt: Annotated[
        bool, typer.Option("--edit-prompt", help="Write it in $EDITOR, in memory.")
    ] = False,
    timeout: options.Timeout = None,
) -> None:
    """Change a picture as the prompt says.

    Example: fluxctx edit @last "make it green" -o green.png
    """
    generate(
        session,
        prompt=prompt,
        model=model,
        image=[image],
        size=size,
        steps=steps,
        guidance=guidance,
        seed=seed,
        count=count,
        output=output,
        force=force,
        retain=retain,
        tag=tag,
        metadata=metadata,
        preview=preview,
        ephemeral=ephemeral,
        dry_run=dry_run,
        prompt_file=prompt_file,
        edit_prompt=edit_prompt,
        timeout=timeout,
    )


app = single(edit)
