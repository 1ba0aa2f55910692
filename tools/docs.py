"""Write docs/reference from the code, or check that it is what the code says (`--check`)."""

from __future__ import annotations

import sys
from pathlib import Path

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
GENERATED = "<!-- written by tools/docs.py from the code; do not edit -->\n"


def cli_page() -> str:
    """Every command with its help, as `--help` prints it."""
    from fluxctx.commands.discover import commands
    from fluxctx.commands.tree import root

    lines = [GENERATED, "# Commands", "", "Every command also takes the flags listed at the end of its help."]
    tree = root()
    for entry in commands():
        words = entry["command"].split()
        group = tree.get_command(None, words[0])
        leaf = group.commands[words[1]] if len(words) > 1 else group
        with leaf.make_context(f"fluxctx {entry['command']}", [], resilient_parsing=True) as context:
            context.terminal_width = context.max_content_width = 100
            lines += [
                "",
                f"## fluxctx {entry['command']}",
                "",
                "```text",
                leaf.get_help(context).rstrip(),
                "```",
            ]
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """Every slug with its exit code and meaning."""
    from fluxctx.errors import registry

    lines = [GENERATED, "# Errors and exit codes", ""]
    lines += [
        "An unknown non-zero exit code is a failure. Retry only 10 at once, 7 with a smaller request, 11 later.",
        "Exit 141 means that the reader of stdout went away (`| head -1`); what was sealed stays sealed.",
        "",
        "| exit | code | meaning |",
        "|---|---|---|",
    ]
    rows = sorted(registry().items(), key=lambda pair: (pair[1].exit_code, pair[0]))
    lines += [f"| {cls.exit_code} | `{slug}` | {(cls.__doc__ or '').splitlines()[0]} |" for slug, cls in rows]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every setting, variable and default."""
    from fluxctx.config import OTHER_VARIABLES, SETTINGS

    lines = [GENERATED, "# Settings and environment", ""]
    lines += [
        "First that speaks wins: flag, variable, `./fluxctx.toml`, the user's `config.toml`, "
        "`/etc/fluxctx/config.toml`, default. What the system file names under `locked` cannot be changed below it.",
        "",
        "| key | variable | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{s.key}` | `{s.variable}` | `{s.default}` | {s.meaning} |" for s in SETTINGS]
    lines += ["", "## Other variables", "", "| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in OTHER_VARIABLES.items()]
    return "\n".join(lines) + "\n"


PAGES = {"cli.md": cli_page, "errors.md": errors_page, "settings.md": settings_page}


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for name, write in PAGES.items():
        path, text = REFERENCE / name, write()
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        print(f"docs/reference is stale: {', '.join(stale)}; run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
