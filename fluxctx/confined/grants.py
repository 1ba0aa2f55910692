"""What a confined child may reach, as the parent grants it and as the child finds it on its machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import fluxctx
from fluxctx.confined.floor import Devices

SYSTEM_LIBRARIES = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
)
# What torch, MKL and the C library ask about the machine; nothing in them is the user's.
MACHINE_FACTS = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/etc/mime.types",  # mimetypes dies where it finds this and may not read it
    "/dev/urandom",
    "/dev/null",
)
CUDA_READ = (
    "/proc/driver",
    "/proc/devices",
    "/proc/modules",
    "/proc/self",
    "/proc/sys/vm",
    "/sys/bus/pci",
    "/sys/class",
    "/sys/devices",
    "/sys/module",
    "/usr/local/cuda",
    "/usr/local/nvidia",
)
CUDA_WRITE = ("/proc/self/task",)  # cuInit names its threads there and fails (error 304) where it cannot


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What a child may reach beyond the interpreter, its packages and the system's libraries.

    read: directories or files it may read, a model's directory say; never anything of the vault.
    devices: "none", or "cuda" for NVIDIA's device files (unverified until a GPU has run it).
    """

    read: tuple[str, ...] = ()
    devices: Devices = "none"


def readable_paths(grants: Grants) -> list[str]:
    """All that may be read on this machine."""
    found = [*interpreter_paths(), *SYSTEM_LIBRARIES, *MACHINE_FACTS, *grants.read]
    if grants.devices == "cuda":
        found += CUDA_READ
    return list(dict.fromkeys(found))


def writable_paths(grants: Grants) -> list[str]:
    """Device files and the like; empty without a device."""
    if grants.devices == "none":
        return []
    return [*CUDA_WRITE, *sorted(map(str, Path("/dev").glob("nvidia*")))]


def interpreter_paths() -> list[str]:
    """Where this interpreter finds modules: narrower than its prefix, which may be a whole home."""
    prefixes = dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix))
    libraries = [str(Path(prefix, name)) for prefix in prefixes for name in ("lib", "lib64")]
    package = str(Path(fluxctx.__file__).parent)  # an editable install's source is on no path
    return [path for path in (*libraries, *sys.path, package) if Path(path).is_absolute() and path != "/"]
