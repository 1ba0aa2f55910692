"""The child's start: `python -I -B -m fluxctx.confined.child MODULE FD`.

Nothing but the standard library and this room is imported before the floor holds.  Then MODULE is imported
and its `main(channel: Channel) -> None` is called; when it returns, or the parent is gone, the process ends.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fluxctx.confined.grants import Grants
from fluxctx.confined.layers import Layers
from fluxctx.confined.wire import Channel
from fluxctx.errors import ConfinementUnavailable

if sys.platform == "win32":
    from fluxctx.confined import windows
else:
    from fluxctx.confined import sandbox


def main(module: str, fd: str) -> int:
    """Confine this process, say so, and become `module`; returns the exit status."""
    channel = open_channel(fd)
    start = channel.recv().head
    try:
        layers = give_up(start, channel)
    except ConfinementUnavailable as refused:
        channel.send(
            "refused", {"message": refused.message, "hint": refused.hint, "details": refused.details}
        )
        return refused.exit_code
    channel.send("floor", {"layers": asdict(layers), "attempts": probe(start.get("targets"))})
    try:
        importlib.import_module(module).main(channel)
    except EOFError:  # the parent is gone, and with it everyone who could want more
        return 0
    return 0


def open_channel(fd: str) -> Channel:
    """Open the end of the channel that the command line names."""
    if sys.platform == "win32":
        return windows.channel_of_child()
    return Channel(int(fd))


def give_up(start: Mapping[str, Any], channel: Channel) -> Layers:
    """Confine this process as the start frame says; raises ConfinementUnavailable."""
    if sys.platform == "win32":
        return Layers(platform="win32")
    grants = Grants(read=tuple(start["read"]), devices=start["devices"])
    return sandbox.confine(grants, parent_pid=start["parent_pid"], channel_fd=channel.fileno())


def probe(targets: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Try every way out, if the parent listens, while nothing but this room has been imported."""
    if not targets:
        return []
    from fluxctx.confined import attempts

    return attempts.run(targets)


def run() -> None:
    """Call main() with the command line; skip the interpreter's end, in which torch's threads can hang."""
    status = 1
    try:
        status = main(sys.argv[1], sys.argv[2])
    except BaseException:  # noqa: BLE001  (whatever it was, it goes to the pipe and the process ends)
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    run()
