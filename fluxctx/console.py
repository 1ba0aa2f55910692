"""What a person or a script sees: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from fluxctx import __version__
from fluxctx.errors import FluxctxError

Mode = Literal["text", "json", "stream"]


class Console:
    """One command's voice.  `mode` is text, json (one envelope) or stream (events, then one envelope)."""

    def __init__(
        self, *, mode: Mode = "text", quiet: bool = False, color: bool = True, command: str = ""
    ) -> None:
        self.mode = mode
        self.quiet = quiet
        self.color = color and sys.stderr is not None and sys.stderr.isatty()
        self.command = command
        self._progress: Any = None

    # --- stdout: data -----------------------------------------------------------------------------

    def done(
        self,
        data: Mapping[str, Any],
        text: str | Iterable[str] = (),
        *,
        error: FluxctxError | None = None,
    ) -> None:
        """Finish a command: the envelope for scripts, `text` for people.

        A measurement that found something wrong gives both: `error` is raised, and its envelope carries `data`.
        """
        self.stop_progress()
        if self.mode == "text":
            for line in [text] if isinstance(text, str) else text:
                write(sys.stdout, line)
        elif error is None:
            write(sys.stdout, dumps(self.envelope(data, None)))
        if error is not None:
            error.data = data
            raise error

    def envelope(self, data: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> dict[str, Any]:
        return {
            "schema": "fluxctx.envelope/1",
            "ok": error is None,
            "command": self.command,
            "version": __version__,
            "data": data,
            "error": error,
        }

    def event(self, kind: str, **fields: Any) -> None:
        """One NDJSON event; silent in the other modes."""
        if self.mode == "stream":
            write(sys.stdout, dumps({"schema": "fluxctx.event/1", "type": kind, **fields}))

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
        """Plain aligned columns; readable without colour, in a pipe and by a screen reader."""
        cells = [[str(row.get(column, "")) for column in columns] for row in rows]
        widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
        lines = [[column.upper().replace("_", " ") for column in columns], *cells]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]

    # --- stderr: everything else ------------------------------------------------------------------

    def note(self, line: str) -> None:
        """Something good to know; silent with --quiet."""
        if not self.quiet and self.mode == "text":
            self.stop_progress()
            write(sys.stderr, line)

    def warn(self, code: str, message: str) -> None:
        """A warning: an event for scripts, a line for people."""
        self.event("warning", code=code, message=message)
        if self.mode != "stream":
            self.stop_progress()
            write(sys.stderr, f"{self.paint('warning', '33')}: {message}")

    def fail(self, error: FluxctxError) -> None:
        """The one place where an error is shown."""
        self.stop_progress()
        body = {"code": error.slug, "message": error.message, "hint": error.hint, "details": error.details}
        if self.mode == "text":
            write(sys.stderr, f"{self.paint('error', '31')}: {error.message}")
            if error.hint:
                write(sys.stderr, f"\n{self.paint('hint', '36')}: {error.hint}")
        else:
            write(sys.stdout, dumps(self.envelope(error.data, body)))

    def paint(self, word: str, code: str) -> str:
        return f"\x1b[{code}m{word}\x1b[0m" if self.color else word

    # --- progress ---------------------------------------------------------------------------------

    def phase(self, name: str) -> None:
        """Show what is happening now: a line of its own in a pipe is noise, so only on a terminal."""
        if self.shows_progress():
            self.progress_bar().phase(name)

    def step(self, step: int, steps: int, it_per_s: float, eta_s: float) -> None:
        if self.shows_progress():
            self.progress_bar().step(step, steps, it_per_s, eta_s)

    def shows_progress(self) -> bool:
        return self.mode == "text" and not self.quiet and sys.stderr is not None and sys.stderr.isatty()

    def progress_bar(self) -> Any:
        if self._progress is None:
            self._progress = ProgressBar(color=self.color)
        return self._progress

    def stop_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class ProgressBar:
    """One line on stderr: phase, n/N, it/s, time left.  rich is imported only when a person is watching."""

    def __init__(self, *, color: bool) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn

        console = RichConsole(stderr=True, no_color=not color, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, figures="")
        self._began = time.monotonic()
        self._bar.start()

    def phase(self, name: str) -> None:
        self._bar.update(self._task, description=name)

    def step(self, step: int, steps: int, it_per_s: float, eta_s: float) -> None:
        figures = f"{step}/{steps}  {it_per_s:.1f} it/s  {eta_s:.0f} s left"
        self._bar.update(self._task, total=steps, completed=step, figures=figures)

    def stop(self) -> None:
        self._bar.stop()


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


class ReaderGone(Exception):
    """Whoever read our stdout has left (`| head -1`)."""


def write(stream: Any, line: str) -> None:
    """Write one line and flush, so that a reader of the pipe sees events as they happen."""
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error


def table_size(size_bytes: int) -> str:
    """A size for people: 812 B, 4.2 kB, 1.5 MB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"
