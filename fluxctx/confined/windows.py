"""Windows: there is no floor that an ordinary user could set, so the child runs WITHOUT one.

Only where an administrator has recorded that they accept this; `Layers.enforced` is False and `trust` shows
P1 and P3 as not enforced.  The child is a process of its own without a key and with a scrubbed environment,
and it leaves when its parent's pipe closes.  UNTESTED on Windows: no such machine was at hand; its parts run
in tests on Linux.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping

from fluxctx.confined.wire import Channel

CREATE_NO_WINDOW = 0x08000000


def start_process(
    command: Callable[[str], list[str]], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the child with pipes as its channel: no socket's descriptor can be inherited here."""
    return subprocess.Popen(
        command("stdio"),
        env={**environment, **system_root()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        creationflags=CREATE_NO_WINDOW if os.name == "nt" else 0,
    )


def channel_of_parent(process: subprocess.Popen[bytes]) -> Channel:
    """The parent's end: the child's stdout is read, its stdin is written."""
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as stdin, process.stdout as stdout:
        return Channel(os.dup(stdout.fileno()), write_fd=os.dup(stdin.fileno()))


def channel_of_child() -> Channel:
    """The child's end: take 0 and 1 for the channel, and let all that is printed go to 2."""
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    if os.name == "nt":
        import msvcrt

        for fd in (read_fd, write_fd):
            msvcrt.setmode(fd, os.O_BINARY)  # type: ignore[attr-defined,unused-ignore]
    return Channel(read_fd, write_fd=write_fd)


def system_root() -> dict[str, str]:
    """The one variable without which Python does not start on Windows, asked from the system itself."""
    if os.name != "nt":
        return {}
    import ctypes

    name = ctypes.create_unicode_buffer(260)
    ctypes.windll.kernel32.GetWindowsDirectoryW(name, 260)  # type: ignore[attr-defined,unused-ignore]
    return {"SYSTEMROOT": name.value}
