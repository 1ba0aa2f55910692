"""`fluxctx show ID`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from fluxctx import inspection
from fluxctx.commands.base import Session, single
from fluxctx.commands.list_items import row
from fluxctx.console import table_size
from fluxctx.domain import utc


def show(
    session: Session,
    item: Annotated[str, typer.Argument(help="An item id, a prefix, @last, @1, @2.", show_default=False)],
    lifecycle: Annotated[
        bool, typer.Option("--lifecycle", help="Every step from upload to deletion.")
    ] = False,
    recipe: Annotated[bool, typer.Option("--recipe", help="Only the recipe, as JSON.")] = False,
) -> None:
    """Show an item's facts, recipe and lifecycle."""
    with session.runtime() as runtime:
        runtime.open_account()
        item_id = runtime.resolve(item)
        found = runtime.vault().get(item_id, now=runtime.now())
        metadata = dict(runtime.vault().metadata(item_id, now=runtime.now()))
        steps = inspection.lifecycle_of(runtime, found, metadata)
    data = {
        "item": row(found, metadata.get("tags", {})),
        "recipe": metadata.get("recipe"),
        "lifecycle": steps,
    }
    if recipe:
        session.console.done(data, json.dumps(metadata.get("recipe"), indent=2, ensure_ascii=False))
        return
    session.console.done(data, text_lines(found, metadata, steps, full=lifecycle))


def text_lines(found: Any, metadata: dict[str, Any], steps: list[dict[str, Any]], *, full: bool) -> list[str]:
    """What a person reads: facts first, then the recipe's main lines, then the lifecycle."""
    facts = {
        "id": found.id,
        "kind": f"{found.kind}, {found.mime}, {table_size(found.size_bytes)}",
        "made": utc(found.created_at),
        "deleted": f"{utc(found.expires_at)}, by itself",
    }
    if made := metadata.get("recipe"):
        params = made["params"]
        facts |= {"prompt": made["prompt"], "model": made["model"]["name"], "seed": params["seed"]}
        facts["drawn"] = f"{params['steps']} steps at {params['render_size']}, kept at {params['size']}"
    if tags := metadata.get("tags"):
        facts["tags"] = ", ".join(f"{key}={value}" if value else key for key, value in tags.items())
    lines = [f"{name:<9} {value}" for name, value in facts.items()]
    if full:
        lines += ["", "lifecycle"] + [
            f"  {step['at'] or '-':<21} {step['step']:<10} {step['detail']}" for step in steps
        ]
    return lines


app = single(show)
