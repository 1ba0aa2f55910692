"""What every command shares: its flags, its console, its configuration."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluxctx.config import Config, is_terminal, load_config
from fluxctx.console import Console
from fluxctx.errors import QuestionNeedsTerminal

if TYPE_CHECKING:
    from fluxctx.runtime import Runtime

Flag = typer.Option(show_default=False)


@dataclass(kw_only=True)
class Common:
    """The flags that every command has."""

    home: Annotated[str | None, typer.Option(help="Keep everything below this directory.", metavar="DIR")] = (
        None
    )
    account: Annotated[str | None, typer.Option(help="Act for this account.", metavar="NAME")] = None
    passphrase_file: Annotated[
        str | None, typer.Option(help="Read the passphrase from a file's first line.", metavar="FILE")
    ] = None
    passphrase_fd: Annotated[
        int | None, typer.Option(help="Read the passphrase from an open descriptor.", metavar="FD")
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Print one JSON envelope.")] = False
    json_stream: Annotated[
        bool, typer.Option("--json-stream", help="Print NDJSON events, then one envelope.")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only data and errors.")] = False
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask anything.")] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Answer yes to questions.")] = False
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a bug.", hidden=True)] = False


class Session:
    """One command's run: configuration read once, a console, and the parts it opens."""

    def __init__(self, common: Common, command: str) -> None:
        self.common = common
        flags = {"account": common.account}
        self.config: Config = load_config(flags, home=common.home)
        mode: Any = "stream" if common.json_stream else "json" if common.json else "text"
        color = not (common.no_color or self.config.environment.get("NO_COLOR"))
        self.console = Console(mode=mode, quiet=common.quiet, color=color, command=command)

    @property
    def may_ask(self) -> bool:
        return not self.common.no_input and self.console.mode == "text" and is_terminal()

    def confirm(self, question: str, *, hint: str = "add --yes") -> bool:
        """Ask yes or no on a terminal; elsewhere only --yes answers."""
        if self.common.yes:
            return True
        if not self.may_ask:
            raise QuestionNeedsTerminal("this needs an answer, and there is no terminal to ask on", hint=hint)
        return typer.confirm(question, err=True)

    def runtime(self, **overrides: Any) -> Runtime:
        """Open the composition root; use it as a context manager."""
        from fluxctx.runtime import Runtime

        return Runtime(
            self.config,
            passphrase_file=self.common.passphrase_file,
            passphrase_fd=self.common.passphrase_fd,
            may_ask=self.may_ask,
            warn=self.console.warn,
            **overrides,
        )


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the common flags; its first parameter becomes the Session."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    shared = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(Common, eval_str=True).parameters.values()
        if parameter.name not in {p.name for p in own}
    ]

    @functools.wraps(function)
    def run(ctx: typer.Context, **arguments: Any) -> Any:
        flags = Common(**{p.name: arguments.pop(p.name) for p in shared})
        words = ctx.command_path.split()[1:]
        return function(Session(flags, " ".join(words)), **arguments)

    first = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    run.__signature__ = inspect.Signature([first, *own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [first, *own, *shared]}
    return run


def single(function: Callable[..., Any]) -> typer.Typer:
    """A Typer app of one command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(common(function))
    return app


def group(help_line: str, **commands: Callable[..., Any]) -> typer.Typer:
    """A Typer app of several commands; names with `_` become names with `-`."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help=help_line,
        no_args_is_help=True,
    )

    @app.callback(help=help_line)
    def _root() -> None: ...

    for name, function in commands.items():
        app.command(name.replace("_", "-"), context_settings={"help_option_names": ["-h", "--help"]})(
            common(function)
        )
    return app
