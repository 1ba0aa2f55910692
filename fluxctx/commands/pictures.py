"""Show a picture in the terminal: kitty, iTerm2, sixel or half blocks.  The bytes go to stderr, never to a file."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fluxctx.commands.base import Session
from fluxctx.domain import RawImage

COLUMNS = 40  # a preview's width in half blocks; its height follows
SIXEL_PX = 256


def show_inline(session: Session, runtime: Any, content: bytes, mode: str) -> None:
    """Show an encoded picture on the terminal that stderr is, if `mode` or the terminal allows it."""
    if mode == "auto":
        if not (session.console.shows_progress() and session.console.color):
            return
        mode = detect(session.config.environment)
    if mode == "none":
        return
    sys.stderr.write(render(content, mode, runtime) + "\n")
    sys.stderr.flush()


def detect(environment: Mapping[str, str]) -> str:
    """What this terminal understands; half blocks are understood by all.

    Sources: kitty graphics protocol; iTerm2 inline images; terminals name themselves in TERM and TERM_PROGRAM.
    """
    if "TMUX" in environment or environment.get("TERM", "").startswith("screen"):
        return "blocks"
    if "KITTY_WINDOW_ID" in environment or environment.get("TERM") in {"xterm-kitty", "xterm-ghostty"}:
        return "kitty"
    if environment.get("TERM_PROGRAM") in {"iTerm.app", "WezTerm"}:
        return "iterm2"
    if environment.get("TERM") in {"foot", "mlterm", "contour"}:
        return "sixel"
    return "blocks" if environment.get("TERM") not in {None, "", "dumb"} else "none"


def render(content: bytes, mode: str, runtime: Any) -> str:
    """The escape sequences for one picture; pixels are decoded in the keyless child only."""
    if mode == "kitty":
        return "".join(kitty(content))
    if mode == "iterm2":
        encoded = base64.b64encode(content).decode()
        return f"\x1b]1337;File=inline=1;size={len(content)};preserveAspectRatio=1:{encoded}\x07"
    longest = SIXEL_PX if mode == "sixel" else COLUMNS
    image: RawImage = runtime.media().shrink(content, longest_px=longest)
    return sixel(image) if mode == "sixel" else "\n".join(half_blocks(image))


def kitty(content: bytes) -> Iterator[str]:
    """PNG bytes in chunks of 4096 base64 characters; m=1 says that more follow."""
    encoded = base64.b64encode(content).decode()
    chunks = [encoded[i : i + 4096] for i in range(0, len(encoded), 4096)]
    for number, chunk in enumerate(chunks):
        control = "a=T,f=100,q=2," if number == 0 else ""
        yield f"\x1b_G{control}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"


def half_blocks(image: RawImage) -> Iterator[str]:
    """Two pixels a character: the upper one in front, the lower one behind."""
    stride = image.width_px * image.channels

    def pixel(x: int, y: int) -> tuple[int, int, int]:
        if y >= image.height_px:
            return (0, 0, 0)
        start = y * stride + x * image.channels
        red, green, blue = (
            (image.pixels[start : start + 3] * 3)[:3]
            if image.channels == 1
            else image.pixels[start : start + 3]
        )
        return (red, green, blue)

    for y in range(0, image.height_px, 2):
        cells = []
        for x in range(image.width_px):
            front, back = pixel(x, y), pixel(x, y + 1)
            cells.append("\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m▀".format(*front, *back))
        yield "".join(cells) + "\x1b[0m"


def sixel(image: RawImage) -> str:
    """Six rows of pixels a line, in a fixed palette of 6 x 6 x 6 colours.  Source: VT330/340 manual, chapter 14."""
    levels = [0, 20, 40, 60, 80, 100]
    palette = [
        f"#{r * 36 + g * 6 + b};2;{levels[r]};{levels[g]};{levels[b]}"
        for r in range(6)
        for g in range(6)
        for b in range(6)
    ]
    width, step = image.width_px, image.channels
    nearest = [min(5, (value + 25) // 51) for value in range(256)]
    lines = []
    for top in range(0, image.height_px, 6):
        columns: dict[int, list[int]] = {}
        for row in range(min(6, image.height_px - top)):
            base = (top + row) * width * step
            for x in range(width):
                red, green, blue = image.pixels[base + x * step : base + x * step + 3]
                color = nearest[red] * 36 + nearest[green] * 6 + nearest[blue]
                columns.setdefault(color, [0] * width)[x] |= 1 << row
        lines.append(
            "$".join(f"#{color}" + "".join(chr(63 + bits) for bits in row) for color, row in columns.items())
        )
    return "\x1bPq" + "".join(palette) + "-".join(lines) + "\x1b\\"
