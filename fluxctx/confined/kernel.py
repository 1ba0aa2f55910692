"""The few kernel calls that confine a process, by ctypes: no library that might be missing or different.

Every function raises OSError with the kernel's errno; sandbox.py turns that into ConfinementUnavailable.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from collections.abc import Sequence

from fluxctx.confined import bpf
from fluxctx.confined.syscalls import NUMBERS, machine

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_MM = 35
PR_SET_MM_MAP = 14
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
CAPABILITY_VERSION_3 = 0x20080522


@functools.cache
def _libc() -> ctypes.CDLL:
    """The C library, loaded at the first call so that this module imports on every platform."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def syscall(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Make a raw system call; returns its result, which may be positive."""
    here = machine()
    number = None if here is None else NUMBERS[here].get(name)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    return raw_syscall(number, *arguments)


def raw_syscall(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Make the system call with this number."""
    ctypes.set_errno(0)
    passed = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(_libc().syscall(ctypes.c_long(number), *passed))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, *arguments: int) -> int:
    """Make a prctl call with the four arguments that some options insist on."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return syscall("prctl", option, *padded)


def empty_command_line() -> None:
    """Make /proc/<pid>/cmdline and environ empty: their bytes lie in our memory, and everybody may read them.

    Their bounds are set to nothing by `struct prctl_mm_map`, which wants all the other bounds as they are
    (proc_pid_stat(5), fields 26 to 28 and 45 to 51).  It needs no privilege, and a kernel with
    CONFIG_CHECKPOINT_RESTORE.
    """
    with open("/proc/self/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()

    def field(number: int) -> int:
        return int(fields[number - 3])

    code, data, heap = (field(26), field(27)), (field(45), field(46)), (field(47), syscall("brk", 0))
    arguments, environment = (field(48), field(48)), (field(50), field(50))
    bounds = (*code, *data, *heap, field(28), *arguments, *environment)
    packed = struct.pack("<11QQII", *bounds, 0, 0, 0xFFFFFFFF)  # no new auxv, no new executable
    layout = ctypes.create_string_buffer(packed, len(packed))
    prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(layout), len(packed))


def drop_capabilities() -> None:
    """Empty every capability set, the bounding set too where the kernel lets us (it needs CAP_SETPCAP)."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # past the last one (EINVAL), or not ours to drop (EPERM)
            break
    try:
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError:  # a kernel before 4.3 has no ambient set
        pass
    syscall("capset", struct.pack("<Ii", CAPABILITY_VERSION_3, 0), bytes(24))


def capabilities() -> int:
    """The union of the effective, permitted and inheritable sets of this thread."""
    sets = ctypes.create_string_buffer(24)
    syscall("capget", struct.pack("<Ii", CAPABILITY_VERSION_3, 0), sets)
    words: tuple[int, ...] = struct.unpack("<6I", sets.raw)
    return words[0] | words[1] | words[2] | (words[3] | words[4] | words[5]) << 32


def install_filter(program: Sequence[bpf.Instruction]) -> None:
    """Install a seccomp filter on every thread of the process, for ever.

    With TSYNC a failure may be a POSITIVE thread id with errno 0, so only 0 is success.
    """
    packed = bpf.pack(program)
    instructions = ctypes.create_string_buffer(packed, len(packed))
    # struct sock_fprog {unsigned short len; struct sock_filter *filter;}
    header = ctypes.create_string_buffer(
        struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(instructions))
    )
    flags = (
        SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW
    )  # else kernels < 5.16 slow the child down
    result = syscall("seccomp", SECCOMP_SET_MODE_FILTER, flags, header)
    if result != 0:
        raise OSError(errno.EBUSY, "a thread could not be brought under the filter")
