"""`fluxctx completion SHELL`."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxctx.commands.base import Session, single
from fluxctx.errors import InvalidRequest

SHELLS = ("bash", "zsh", "fish", "powershell")


def completion(
    session: Session,
    shell: Annotated[str, typer.Argument(help="bash, zsh, fish or powershell.", show_default=False)],
) -> None:
    """Print a shell's completion script.

    Example: eval "$(fluxctx completion bash)"
    """
    if shell not in SHELLS:
        raise InvalidRequest("unknown shell", hint="bash, zsh, fish or powershell")
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="fluxctx", complete_var="_FLUXCTX_COMPLETE", shell=shell)
    session.console.done({"shell": shell, "script": script}, script)


app = single(completion)
