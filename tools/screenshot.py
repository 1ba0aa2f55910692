"""Run a command in a terminal of its own and save what it showed as SVG.

python tools/screenshot.py OUT.svg -- COMMAND [ARGUMENT...]
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 100, 40


def main() -> int:
    split = sys.argv.index("--")
    out, command = Path(sys.argv[1]), sys.argv[split + 1 :]
    child = pexpect.spawn(command[0], command[1:], dimensions=(LINES, COLUMNS), timeout=300, encoding="utf-8")
    child.expect(pexpect.EOF)
    shown = last_frames(child.before or "")
    console = Console(record=True, width=COLUMNS, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(Text.from_ansi("$ " + shlex.join(command).replace(".venv/bin/", "") + "\n" + shown))
    out.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(out), title="fluxctx")
    return 0


def last_frames(text: str) -> str:
    """What stays on the screen: a line that is drawn again keeps only its last drawing."""
    drawn = (line.rstrip("\r") for line in text.replace("\r\n", "\n").split("\n"))
    lines = [line.split("\r")[-1] for line in drawn]
    return "\n".join(line for line in lines if line.strip())


if __name__ == "__main__":
    sys.exit(main())
