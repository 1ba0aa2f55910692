"""What this machine has, asked of the operating system and never of torch."""

from __future__ import annotations

import os
from pathlib import Path

from fluxctx.engine.placement import Memory

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def available_cores() -> int:
    """Cores this process may use; the count is part of the recipe because it changes float32 bytes."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory(*, meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> Memory:
    """RAM that a new process could get, a container's own limit included.

    Video memory is not known before the driver is asked, which the parent does not do: a CUDA job is placed
    as if it fitted, and an out-of-memory answer says so.
    """
    free = _meminfo_available(meminfo)
    if free is None:
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        free = pages * os.sysconf("SC_PAGE_SIZE") if pages > 0 else 1 << 62
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is not None and used is not None:
        cache = _cgroup_cache(cgroup / "memory.stat")
        free = min(free, max(0, limit - used + cache))
    return Memory(ram_bytes=free, vram_bytes=None)


def _meminfo_available(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" means no limit
        return None


def _cgroup_cache(path: Path) -> int:
    """Clean page cache counts as used but is given back when asked for."""
    try:
        facts = dict(line.split() for line in path.read_text().splitlines())
        return int(facts.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0
