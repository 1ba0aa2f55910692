"""Take the prompt out of /proc/<pid>/cmdline, where every process of the machine can read it."""

from __future__ import annotations

import ctypes
import sys


def hide_arguments(title: bytes = b"fluxctx") -> bool:
    """Overwrite this process's argument block in place; returns whether it could be done (Linux only).

    Python has its own copies by now.  Between exec and this call, some 20 ms, the arguments are visible:
    `--edit-prompt`, `--prompt-file` and the question on the terminal never put a prompt there at all.
    Source: proc(5), /proc/pid/stat fields 48 and 49 (arg_start, arg_end).
    """
    if sys.platform != "linux":
        return False
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # field 3 onwards: the name may hold spaces
        start, end = int(fields[45]), int(fields[46])
    except (OSError, IndexError, ValueError):
        return False
    length = end - start
    if start == 0 or not 0 < length < 1 << 22:
        return False
    ctypes.memset(start, 0, length)
    ctypes.memmove(start, title[: length - 1], min(len(title), length - 1))
    return True
