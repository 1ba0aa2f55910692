"""The command tree.

Commands are imported when they are called: `--help`, `--version` and `list` never pay for one another.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
import typer.core

# name -> (module, one line); the test of the tree keeps the line equal to the command's own docstring
TREE: dict[str, tuple[str, str]] = {
    "init": ("init", "Make the first account, or one an operator invited: passphrase, terms, sweep timer."),
    "generate": ("generate", "Make pictures from a prompt and seal them into the vault."),
    "edit": ("edit", "Change a picture as the prompt says."),
    "list": ("list_items", "List what the vault holds, newest first."),
    "search": ("search", "Find items whose prompt or tags hold these words."),
    "show": ("show", "Show an item's facts, recipe and lifecycle."),
    "open": ("open_item", "Look at an item without leaving a copy on the disk."),
    "import": ("import_files", "Seal files of yours into the vault."),
    "export": ("export", "Write decrypted, marked copies of items."),
    "purge": ("purge", "Delete items for good."),
    "retain": ("retain", "Give an item a new end, within the plan's limit."),
    "sweep": ("sweep", "Destroy what has expired; needs no passphrase."),
    "models": ("models", "The installed models: list, add, show, verify, remove."),
    "policy": ("policy", "The content policy: show it, check a text or a picture against it."),
    "terms": ("terms", "The acceptable-use terms: show them, accept them."),
    "account": ("account", "Accounts on this machine: show, list."),
    "vault": ("vault", "The vault: passphrase, recovery phrase, key file, check."),
    "ledger": ("ledger", "The account's tamper-evident record: show, verify, export."),
    "provenance": (
        "provenance",
        "Marks of copies: verify a picture, print the account's root certificate.",
    ),
    "trust": ("trust", "Every promise, measured now."),
    "doctor": ("doctor", "Check this machine: device, disk, sandbox, timer, clock."),
    "config": ("config", "The settings in force and where each comes from."),
    "discover": ("discover", "Commands, errors, exit codes and schemas for programs."),
    "completion": ("completion", "Print a shell's completion script."),
    "uninstall": ("uninstall", "Remove the timer and sockets; asks before any vault."),
}


class LazyTree(typer.core.TyperGroup):
    """The root group: it knows every name and line, and imports only the command that was called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(TREE)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in TREE:
            return None
        module = importlib.import_module(f"fluxctx.commands.{TREE[cmd_name][0]}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in TREE.items()])


def root() -> LazyTree:
    """The whole command tree."""
    return LazyTree(
        name="fluxctx",
        help="Private image generation on your own machine, with promises you can check.\n\n"
        'Start with `fluxctx init`, then `fluxctx generate "a red apple" -o apple.png`.',
        epilog="Every command takes --json, --json-stream, --quiet, --no-input, --yes, --account and --home.",
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
