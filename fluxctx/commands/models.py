"""`fluxctx models list|add|show|verify|remove`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fluxctx.commands.base import Session, group
from fluxctx.console import table_size
from fluxctx.domain import InstalledModel
from fluxctx.errors import Interrupted

Name = Annotated[str, typer.Argument(help="A model's name.", show_default=False)]


def row(model: InstalledModel) -> dict[str, Any]:
    """One entry of `models`."""
    return {
        "name": model.name,
        "workflows": [str(workflow) for workflow in model.workflows],
        "licence": model.licence,
        "sha256": model.sha256,
        "size_bytes": model.size_bytes,
        "requires_filter": model.requires_filter,
        "pipeline": model.pipeline,
        "embedded": model.embedded,
        "default_size": str(model.default_size),
        "default_steps": model.default_steps,
    }


def list_models(session: Session) -> None:
    """List the installed models."""
    with session.runtime() as runtime:
        rows = [row(entry.model) for entry in runtime.catalog().installed()]
    shown = [r | {"size": table_size(r["size_bytes"]), "makes": ", ".join(r["workflows"])} for r in rows]
    session.console.done({"models": rows}, session.console.table(shown, ("name", "size", "licence", "makes")))


def add(
    session: Session,
    path: Annotated[str, typer.Argument(help="A diffusers directory.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="The name to use it by.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy it instead of using it where it lies.")] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the model's licence.")
    ] = False,
) -> None:
    """Add a model from local files: every file is hashed, pickles and code are refused.

    Exits 3 if the directory holds something that is never loaded.
    """
    with session.runtime() as runtime:
        examined = runtime.catalog().examine(Path(path))
        if not accept_license:
            session.console.note(f"licence: {examined.licence.name}")
            if not session.confirm("accept this licence?", hint="add --accept-license"):
                raise Interrupted("the model was not added", hint="its licence was not accepted")
        chosen = name or Path(path).resolve().name.lower()
        model = runtime.catalog().add(Path(path), name=chosen, licence_accepted=True, copy=copy)
    session.console.done({"model": row(model)}, f"added {model.name} ({table_size(model.size_bytes)})")


def show(session: Session, name: Name) -> None:
    """Show what a model is and can do."""
    with session.runtime() as runtime:
        found = row(runtime.catalog().find(name))
    session.console.done({"model": found}, [f"{key:<16} {value}" for key, value in found.items()])


def verify(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="A model's name; all of them without one.")] = None,
) -> None:
    """Hash every file again and compare; exits 9 if one differs."""
    with session.runtime() as runtime:
        names = [name] if name else [entry.model.name for entry in runtime.catalog().installed()]
        checked = [runtime.catalog().verify(one, full=True) for one in names]
    rows = [{"name": model.name, "sha256": model.sha256} for model in checked]
    session.console.done({"verified": rows}, [f"{model.name}: every file as recorded" for model in checked])


def remove(session: Session, name: Name) -> None:
    """Forget a model; files that were copied in are deleted, referenced ones stay."""
    with session.runtime() as runtime:
        runtime.catalog().find(name)
        if not session.confirm(f"remove {name}?"):
            raise Interrupted("nothing was removed", hint="answer y, or add --yes")
        runtime.catalog().remove(name)
    session.console.done({"removed": name}, f"removed {name}")


app = group(
    "The installed models: list, add, show, verify, remove.",
    list=list_models,
    add=add,
    show=show,
    verify=verify,
    remove=remove,
)
