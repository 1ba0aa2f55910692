"""`fluxctx discover`: commands, errors, exit codes and schemas for programs."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from fluxctx import __version__
from fluxctx.commands.base import Session, single
from fluxctx.config import OTHER_VARIABLES, SETTINGS
from fluxctx.errors import registry


def discover(session: Session) -> None:
    """Commands, errors, exit codes and schemas for programs."""
    data = {
        "version": __version__,
        "commands": commands(),
        "errors": [
            {"code": slug, "exit_code": cls.exit_code, "meaning": (cls.__doc__ or "").splitlines()[0]}
            for slug, cls in sorted(registry().items())
        ],
        "environment": {setting.variable: setting.meaning for setting in SETTINGS} | dict(OTHER_VARIABLES),
        "schemas": schemas(),
    }
    session.console.done(data, json.dumps(data, indent=2, ensure_ascii=False))


def commands() -> list[dict[str, Any]]:
    """Every command with its flags, read from the tree that runs them."""
    from fluxctx.commands.tree import TREE, root

    found = []
    tree = root()
    for name in TREE:
        command = tree.get_command(None, name)
        children = getattr(command, "commands", None)
        for path, leaf in (
            [(name, command)] if not children else [(f"{name} {c}", children[c]) for c in children]
        ):
            parameters = [
                {
                    "name": p.name,
                    "flags": list(p.opts),
                    "required": p.required,
                    "help": getattr(p, "help", None),
                }
                for p in leaf.params
                if not getattr(p, "hidden", False)
            ]
            found.append({"command": path, "help": (leaf.help or "").strip(), "parameters": parameters})
    return found


def schemas() -> dict[str, Any]:
    """The JSON Schemas that ship in the package."""
    folder = resources.files("fluxctx") / "schemas"
    return {
        entry.name.removesuffix(".json"): json.loads(entry.read_text(encoding="utf-8"))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".json")
    }


app = single(discover)
