"""`fluxctx export ID...`: decrypted, marked copies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluxctx.commands import filters, options
from fluxctx.commands.base import Session, single
from fluxctx.commands.report import SHORT_ID
from fluxctx.errors import OutputExists, UsageError
from fluxctx.lifecycle import write_copy

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


def export(
    session: Session,
    items: options.Ids = None,
    to: Annotated[
        str | None, typer.Option(help="A file, or a directory for several.", metavar="PATH")
    ] = None,
    force: options.Force = False,
    metadata: options.Metadata = "minimal",
    kind: filters.Kinds = None,
    before: filters.Before = None,
    tag: filters.Tags = None,
    model: filters.Models = None,
) -> None:
    """Write decrypted, marked copies of items.

    A copy says that it is AI-generated and not for training, whatever --metadata says; `full` adds the recipe.
    """
    chosen = filters.parse(kind, before, tag, model)
    if bool(items) == bool(chosen):
        raise UsageError(
            "an item is missing", hint="fluxctx export @last, an id from `fluxctx list`, or --tag"
        )
    with session.runtime() as runtime:
        runtime.open_account()
        ids = (
            [runtime.resolve(reference) for reference in items]
            if items
            else list(filters.matching(runtime, chosen))
        )
        targets = [target_of(item_id, to, len(ids), runtime) for item_id in ids]
        if not force and any(target.exists() for target in targets):
            raise OutputExists("the copy's path exists already", hint="choose another --to or add --force")
        for item_id, target in zip(ids, targets, strict=True):
            copy = runtime.copy_item(item_id, fmt=options.copy_format(target), metadata=metadata)
            write_copy(target, copy.content, force=force)
    rows = [{"id": item_id, "path": str(target)} for item_id, target in zip(ids, targets, strict=True)]
    session.console.done({"copies": rows}, [f"{row['id'][:SHORT_ID]}  {row['path']}" for row in rows])


def target_of(item_id: str, to: str | None, count: int, runtime: object) -> Path:
    """Where one copy goes: `--to`, a name in that directory, or the short id in the current one."""
    name = f"{item_id[:SHORT_ID]}.png"
    if to is None:
        return Path(name)
    path = Path(to)
    if path.is_dir():
        return path / name
    if count > 1:
        raise UsageError("--to must be a directory for several items", hint="make it first")
    return path


app = single(export)
