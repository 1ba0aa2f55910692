"""The floor on macOS: sandbox-exec.  UNTESTED: written from the sources below, no Mac was at hand.

Sources: sandbox-exec(1), <sandbox.h>, and the Metal lines from openai/codex#9007 (a deny-default profile
without them makes MPS disappear silently).
"""

from __future__ import annotations

import ctypes
import os
import select
import threading
from collections.abc import Iterable

SANDBOX_EXEC = "/usr/bin/sandbox-exec"

_HEAD = """(version 1)
(deny default)
(allow process-exec (literal (param "PYTHON")))
(allow process-info* (target self))
(allow signal (target self))
(allow sysctl-read)
(allow file-read-metadata)
(allow mach-lookup (global-name "com.apple.MTLCompilerService"))
(allow iokit-open (iokit-user-client-class "AGXDeviceUserClient"))
(allow file-read* (subpath "/usr/lib") (subpath "/System/Library") (subpath "/Library/Frameworks"))
(allow file-read* (literal "/dev/null") (literal "/dev/urandom") (subpath "/private/var/db/dyld"))
"""


def profile(read: Iterable[str]) -> str:
    """A deny-default profile: no network, nothing written, `read` and the system's libraries readable."""
    return _HEAD + "".join(f"(allow file-read* (subpath {quote(path)}))\n" for path in read)


def quote(path: str) -> str:
    """A path as a string of the profile language."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def command(python: str, read: Iterable[str]) -> list[str]:
    """The words before `python`'s arguments."""
    return [SANDBOX_EXEC, "-D", f"PYTHON={python}", "-p", profile(read), python]


def holds() -> bool:
    """Ask the kernel whether this process is sandboxed."""
    try:
        check = ctypes.CDLL("/usr/lib/libsandbox.1.dylib").sandbox_check
    except (OSError, AttributeError):
        return False
    return bool(check(os.getpid(), None, 0) == 1)


def die_with_parent(parent_pid: int) -> None:
    """End this process when the parent ends: macOS has no PDEATHSIG, so a thread waits for its exit."""

    def watch() -> None:
        queue = select.kqueue()  # type: ignore[attr-defined,unused-ignore]
        exits = select.kevent(  # type: ignore[attr-defined,unused-ignore]
            parent_pid,
            filter=select.KQ_FILTER_PROC,  # type: ignore[attr-defined,unused-ignore]
            flags=select.KQ_EV_ADD,  # type: ignore[attr-defined,unused-ignore]
            fflags=select.KQ_NOTE_EXIT,  # type: ignore[attr-defined,unused-ignore]
        )
        try:
            queue.control([exits], 1)
        finally:
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
