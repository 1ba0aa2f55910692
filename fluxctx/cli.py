"""The entry point and the only `except FluxctxError`: every error becomes words and an exit code here."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

from fluxctx import __version__
from fluxctx.commands.tree import TREE, root
from fluxctx.config import is_completing
from fluxctx.console import Console, ReaderGone
from fluxctx.errors import (
    DiskFull,
    FluxctxError,
    HomeReadOnly,
    Interrupted,
    OutOfMemory,
    StorageFailed,
    Terminated,
    UsageError,
)


def main() -> NoReturn:
    """Run one command and leave with its exit code."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"fluxctx {__version__}\n")
        sys.exit(0)
    signal.signal(signal.SIGTERM, terminate)
    console = Console(mode=mode_of(arguments), command=name_of(arguments))
    try:
        code = run(console, arguments)
        sys.stdout.flush()
    except (ReaderGone, BrokenPipeError):
        # The reader of stdout has gone (`| head -1`); what was sealed stays sealed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = READER_GONE
    sys.exit(code)


def run(console: Console, arguments: list[str]) -> int:
    """Run one command and tell its error, if it has one; returns the exit code."""
    if is_completing():
        from typer._completion_classes import completion_init

        completion_init()
    try:
        code = root().main(args=arguments, prog_name="fluxctx", standalone_mode=False)
        if code == Interrupted.exit_code:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (ReaderGone, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001 -- the one place where every error becomes words and a code
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(f"{error}\n")
            return 2
        known = error if isinstance(error, FluxctxError) else translated(error)
        if "--debug" in arguments:
            traceback.print_exception(error)
        console.fail(known)
        return known.exit_code
    except KeyboardInterrupt:
        console.fail(Interrupted("interrupted", hint="nothing was half stored"))
        return Interrupted.exit_code


def terminate(signum: int, frame: Any) -> NoReturn:
    raise Terminated("terminated", hint="nothing was half stored")


def mode_of(arguments: list[str]) -> Any:
    """How errors are told before the flags are parsed."""
    flags = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "stream" if "--json-stream" in flags else "json" if "--json" in flags else "text"


def name_of(arguments: list[str]) -> str:
    """The command's name for the envelope; never an argument of it."""
    words = [word for word in arguments if not word.startswith("-")]
    if not words or words[0] not in TREE:
        return ""
    second = words[1] if len(words) > 1 else ""
    return f"{words[0]} {second}" if words[0] in GROUPS and second.isalpha() else words[0]


READER_GONE = 141  # what a shell calls SIGPIPE
GROUPS = frozenset({"models", "policy", "terms", "account", "vault", "ledger", "config", "provenance"})


def translated(error: Exception) -> FluxctxError:
    """Turn the parser's and the system's errors into ours, without what the user typed."""
    kind = type(error).__name__
    hint = "`fluxctx COMMAND --help` shows what it takes"
    if kind == "NoSuchOption":
        return UsageError(f"no such option: {getattr(error, 'option_name', '')}", hint=hint)
    if kind == "MissingParameter":
        name = getattr(getattr(error, "param", None), "human_readable_name", "argument")
        return UsageError(f"missing {str(name).lower()}", hint=hint)
    if kind == "BadParameter":
        names = getattr(getattr(error, "param", None), "opts", ["a value"])
        return UsageError(f"bad value for {names[-1]}", hint=hint)
    if kind in {"UsageError", "BadOptionUsage", "BadArgumentUsage"}:
        message = getattr(error, "message", "")
        if message.startswith("No such command"):
            return UsageError("no such command", hint="`fluxctx --help` lists them")
        if "extra argument" in message:
            return UsageError("too many arguments", hint="put the prompt between quotes")
        return UsageError("the command line makes no sense", hint=hint)
    if kind == "Abort":
        return Interrupted("interrupted", hint="nothing was half stored")
    return from_system(error)


def from_system(error: Exception) -> FluxctxError:
    """What the operating system or a bug did; its own words may hold a path, so they are not repeated."""
    number = getattr(error, "errno", None)
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull("no space is left", hint="`fluxctx purge` works on a full disk")
    if number in {errno.EROFS, errno.EACCES, errno.EPERM} and isinstance(error, OSError):
        return HomeReadOnly(
            "the home cannot be written", hint="check its mode and mount, or set FLUXCTX_HOME"
        )
    if isinstance(error, MemoryError):
        return OutOfMemory("memory ran out", hint="close other programs, or make a smaller picture")
    if isinstance(error, OSError):
        return StorageFailed(
            f"the system refused: {os.strerror(number or errno.EIO).lower()}", hint="see `fluxctx doctor`"
        )
    return FluxctxError(
        f"a bug: {type(error).__name__}",
        hint="run it again with --debug and report the traceback, without your prompt",
    )
