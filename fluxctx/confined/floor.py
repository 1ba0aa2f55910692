"""The mandatory floor: a seccomp ALLOW list, as a pure function from (architecture, pid) to a BPF program.

Whatever is not named fails with ENOSYS, so that a kernel newer than this table opens nothing.  What each line
is for, and who was seen calling it: docs/spec/confinement-v1.md, section 4.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fluxctx.confined import bpf
from fluxctx.confined.bpf import Instruction
from fluxctx.confined.syscalls import AUDIT_ARCH, NUMBERS, Machine

Devices = Literal["none", "cuda"]

# The same on both architectures: O_ACCMODE | O_CREAT | O_TRUNC | __O_TMPFILE
WRITING_BITS = 0o3 | 0o100 | 0o1000 | 0o20000000
CREATING_BITS = 0o100 | 0o1000 | 0o20000000
CLONE_THREAD = 0x00010000
CLONE_NEW_ANY = 0x7E020000  # every CLONE_NEW* bit

# Allowed whatever the arguments: what for -> which.
ALLOWED: Mapping[str, str] = {
    "use what is open": (
        "read write readv writev pread64 preadv preadv2 lseek close close_range dup dup2 dup3 pipe pipe2 "
        "eventfd2 fadvise64 readahead"
    ),
    "look at files": (
        "stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents "
        "getdents64 getcwd statfs fstatfs"
    ),
    "wait": (
        "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait "
        "epoll_pwait2 pause nanosleep clock_nanosleep wait4 waitid"
    ),
    "memory of its own": (
        "mmap munmap madvise mprotect mremap msync mincore brk mlock munlock mlock2 mbind get_mempolicy"
    ),
    "threads of its own": (
        "futex futex_waitv futex_wake futex_wait set_robust_list rseq set_tid_address membarrier "
        "sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_getattr "
        "sched_get_priority_max sched_get_priority_min getcpu exit exit_group"
    ),
    "signals to itself": (
        "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack "
        "restart_syscall getitimer setitimer alarm"
    ),
    "clocks and facts": (
        "clock_gettime clock_getres gettimeofday time times getrusage getrlimit sysinfo uname getrandom "
        "getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgid getpgrp "
        "getsid capget umask"
    ),
}

# Refused with EPERM, so that a traceback says "Operation not permitted"; every other call gets ENOSYS.
REFUSED: Mapping[str, str] = {
    "talk to anyone": (
        "socket socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmsg "
        "recvmmsg io_uring_setup io_uring_enter io_uring_register"
    ),
    "make or change files": (
        "openat2 open_by_handle_at creat rename renameat renameat2 unlink unlinkat rmdir link linkat "
        "symlink symlinkat mkdir mkdirat mknod mknodat truncate ftruncate chmod fchmod fchmodat fchmodat2 "
        "chown fchown lchown fchownat utime utimes utimensat futimesat flock setxattr lsetxattr fsetxattr "
        "setxattrat removexattr lremovexattr fremovexattr removexattrat file_setattr"
    ),
    "make or reach processes": (
        "fork vfork execve execveat ptrace process_vm_readv process_vm_writev pidfd_open pidfd_getfd "
        "pidfd_send_signal tkill rt_sigqueueinfo rt_tgsigqueueinfo"
    ),
    "leave something behind": ("memfd_create shmget shmat msgget semget mq_open add_key request_key keyctl"),
    "change what it is": (
        "unshare setns mount umount2 pivot_root chroot fsopen open_tree move_mount setuid setgid capset "
        "setrlimit seccomp bpf perf_event_open userfaultfd acct"
    ),
}

PRCTL_GETTERS = (
    2,
    3,
    16,
    21,
    23,
    39,
    51,
)  # PDEATHSIG DUMPABLE NAME SECCOMP CAPBSET_READ NO_NEW_PRIVS SVE_GET_VL
PRCTL_NAME_MAPPING = 0x53564D41  # PR_SET_VMA: names an anonymous mapping of its own
PRCTL_SET_NAME = 15
FCNTL_COMMANDS = (
    0,
    1,
    2,
    3,
    4,
    1030,
    1027,
    1034,
)  # DUPFD GETFD SETFD GETFL SETFL DUPFD_CLOEXEC DUPFD_QUERY GET_SEALS
IOCTL_COMMANDS = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
ARCH_PRCTL = (0x1002, 0x1003, 0x1021, 0x1022, 0x1023)  # SET_FS GET_FS, and AMX: without it bf16 pixels change
AF_UNIX = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The errno of each refusal; tests give one that no kernel uses, to tell the filter from the kernel."""

    refused: int = errno.EPERM
    unknown: int = errno.ENOSYS
    ioctl: int = errno.ENOTTY  # isatty() and friends ask with this one
    clone3: int = errno.ENOSYS  # glibc falls back to clone; EPERM would end thread creation


def floor_program(
    machine: Machine, pid: int, *, devices: Devices = "none", answers: Answers | None = None
) -> list[Instruction]:
    """The filter for the process `pid`; pure.

    Args:
        machine: Any other architecture that makes a call, and x32, is killed.
        pid: The process itself: the only one it may signal or ask the limits of.
        devices: "cuda" opens device files, so there Landlock must hold as well (docs/spec, section 6).
        answers: Errnos, for tests.
    """
    answers = answers or Answers()
    program = [
        bpf.load(bpf.ARCH_OFFSET),
        bpf.jump(bpf.JUMP_EQ, AUDIT_ARCH[machine], true=1),
        bpf.give(bpf.KILL_PROCESS),
    ]
    program.append(bpf.load(bpf.NUMBER_OFFSET))
    if machine == "x86_64":  # x32 calls carry bit 30; -1 and other nonsense goes the same way
        program += [bpf.jump(bpf.JUMP_GE, 0x40000000, false=1), bpf.give(bpf.KILL_PROCESS)]
    numbers = NUMBERS[machine]
    for name, body in _rules(pid, devices, answers):
        if name in numbers:  # the architecture has this call
            program += [bpf.jump(bpf.JUMP_EQ, numbers[name], false=len(body)), *body]
    program.append(bpf.give(bpf.refuse(answers.unknown)))
    return program


def _rules(pid: int, devices: Devices, answers: Answers) -> Iterator[tuple[str, list[Instruction]]]:
    """Yield (call, what the filter does with it); every body ends in a return on every path."""
    bits = CREATING_BITS if devices == "cuda" else WRITING_BITS
    yield "openat", without_bits(2, bits, answers.refused)
    yield "open", without_bits(1, bits, answers.refused)
    yield "clone", only_threads(answers.refused)
    yield "clone3", [bpf.give(bpf.refuse(answers.clone3))]
    yield "kill", one_of(0, [pid], answers.refused)
    yield "tgkill", one_of(0, [pid], answers.refused)
    yield "fcntl", one_of(1, FCNTL_COMMANDS, answers.refused)
    yield "sched_setaffinity", one_of(0, [0], answers.refused)  # itself; MKL counts cores this way
    yield "arch_prctl", one_of(0, ARCH_PRCTL, answers.refused)
    yield "prlimit64", only_asks_own_limits(pid, answers.refused)
    if devices == "cuda":
        yield from _cuda_rules(answers)
    else:
        yield "ioctl", one_of(1, IOCTL_COMMANDS, answers.ioctl)
        yield "prctl", one_of(0, (*PRCTL_GETTERS, PRCTL_NAME_MAPPING), answers.refused)
    for names in ALLOWED.values():
        yield from ((name, [bpf.give(bpf.ALLOW)]) for name in names.split())
    for names in REFUSED.values():
        yield from ((name, [bpf.give(bpf.refuse(answers.refused))]) for name in names.split())


def _cuda_rules(answers: Answers) -> Iterator[tuple[str, list[Instruction]]]:
    """What the NVIDIA driver's user half needs on top (docs/spec, section 6); unverified until a GPU ran it.

    Its ioctls are device specific: which devices can be reached at all is Landlock's part.
    """
    yield "ioctl", [bpf.give(bpf.ALLOW)]
    yield "prctl", one_of(0, (*PRCTL_GETTERS, PRCTL_NAME_MAPPING, PRCTL_SET_NAME), answers.refused)
    yield "socket", one_of(0, [AF_UNIX], answers.refused)  # it binds @cuda-uvmfd-*; connect stays refused
    for name in ("bind", "listen", "getsockname", "memfd_create", "ftruncate", "flock"):
        yield name, [bpf.give(bpf.ALLOW)]


def without_bits(argument: int, bits: int, error: int) -> list[Instruction]:
    """Refuse where the flags in `argument` (an int: the kernel reads the low half) hold one of `bits`."""
    return [
        bpf.load(bpf.low(argument)),
        bpf.jump(bpf.JUMP_SET, bits, false=1),
        bpf.give(bpf.refuse(error)),
        bpf.give(bpf.ALLOW),
    ]


def one_of(argument: int, values: Sequence[int], error: int) -> list[Instruction]:
    """Allow where the low half of `argument` is one of `values`; the kernel ignores the rest of an int."""
    checks = [bpf.jump(bpf.JUMP_EQ, value, true=len(values) - at) for at, value in enumerate(values)]
    return [bpf.load(bpf.low(argument)), *checks, bpf.give(bpf.refuse(error)), bpf.give(bpf.ALLOW)]


def only_threads(error: int) -> list[Instruction]:
    """Allow clone() with CLONE_THREAD and without any new namespace; no process is ever made."""
    return [
        bpf.load(bpf.low(0)),
        bpf.jump(bpf.JUMP_SET, CLONE_THREAD, false=2),
        bpf.jump(bpf.JUMP_SET, CLONE_NEW_ANY, true=1),
        bpf.give(bpf.ALLOW),
        bpf.give(bpf.refuse(error)),
    ]


def only_asks_own_limits(pid: int, error: int) -> list[Instruction]:
    """Allow prlimit64(0 or pid, any, NULL, any): limits can be read, never set."""
    return [
        bpf.load(bpf.low(0)),
        bpf.jump(bpf.JUMP_EQ, 0, true=1),
        bpf.jump(bpf.JUMP_EQ, pid, false=5),
        bpf.load(bpf.low(2)),
        bpf.jump(bpf.JUMP_EQ, 0, false=3),
        bpf.load(bpf.high(2)),
        bpf.jump(bpf.JUMP_EQ, 0, false=1),
        bpf.give(bpf.ALLOW),
        bpf.give(bpf.refuse(error)),
    ]
