"""The allow list as a program, run through an interpreter of BPF: both architectures on any machine."""

import errno
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxctx.confined import bpf, floor
from fluxctx.confined.bpf import ALLOW, KILL_PROCESS, Instruction, refuse
from fluxctx.confined.syscalls import AUDIT_ARCH, NUMBERS

PID = 4242
MACHINES = ["x86_64", "aarch64"]
EPERM, ENOSYS, ENOTTY = refuse(errno.EPERM), refuse(errno.ENOSYS), refuse(errno.ENOTTY)


def run(program: list[Instruction], arch: int, number: int, *arguments: int) -> int:
    """What the kernel's interpreter answers for one system call (linux/filter.h)."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number % 2**32, arch, 0, *(argument % 2**64 for argument in padded))
    at = accumulator = 0
    while True:
        code, jump_true, jump_false, value = program[at]
        at += 1
        match code:
            case bpf.LOAD:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case bpf.RETURN:
                return value
            case bpf.JUMP_EQ:
                at += jump_true if accumulator == value else jump_false
            case bpf.JUMP_GE:
                at += jump_true if accumulator >= value else jump_false
            case bpf.JUMP_SET:
                at += jump_true if accumulator & value else jump_false
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


@pytest.fixture(params=MACHINES)
def ask(request):
    """Call ask(name, *arguments) -> action, on one architecture; None where it has no such call."""
    program = floor.floor_program(request.param, PID)

    def answer(name: str | int, *arguments: int) -> int | None:
        number = NUMBERS[request.param].get(name) if isinstance(name, str) else name
        return None if number is None else run(program, AUDIT_ARCH[request.param], number, *arguments)

    answer.machine = request.param
    return answer


def header(path: str) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        pytest.skip(f"not run: {path} (linux-libc-dev) is missing")


def test_the_numbers_of_x86_64_are_those_of_the_kernels_headers():
    text = header("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    installed = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}
    known = {name: number for name, number in NUMBERS["x86_64"].items() if name in installed}
    assert len(known) > 280
    assert known == {name: installed[name] for name in known}


def test_the_numbers_of_aarch64_are_those_of_the_kernels_headers():
    text = header("/usr/include/asm-generic/unistd.h")
    installed = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", text)}
    ours = {
        "fstatat" if name == "newfstatat" else name: number for name, number in NUMBERS["aarch64"].items()
    }
    known = {name: number for name, number in ours.items() if name in installed}
    assert len(known) > 240
    assert known == {name: installed[name] for name in known}


def test_only_calls_that_a_table_knows_are_named():
    named = " ".join([*floor.ALLOWED.values(), *floor.REFUSED.values()]).split()
    assert len(named) == len(set(named))
    for name in named:
        assert any(name in NUMBERS[machine] for machine in MACHINES), name


@pytest.mark.parametrize("name", " ".join(floor.ALLOWED.values()).split())
def test_what_is_allowed_is_allowed(ask, name):
    assert ask(name) in (ALLOW, None)
    assert ask(name, *[2**64 - 1] * 6) in (ALLOW, None)


@pytest.mark.parametrize("name", " ".join(floor.REFUSED.values()).split())
def test_what_is_refused_is_refused_whatever_its_arguments(ask, name):
    assert ask(name) in (EPERM, None)
    assert ask(name, *[2**64 - 1] * 6) in (EPERM, None)


@given(number=st.integers(0, 0x3FFFFFFF))
@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_that_nobody_named_does_not_exist(machine, number):
    named = set(NUMBERS[machine].values())
    if number in named:
        return
    program = floor.floor_program(machine, PID)
    assert run(program, AUDIT_ARCH[machine], number) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_up_to_600_gets_an_answer(machine):
    program = floor.floor_program(machine, PID)
    answers = {run(program, AUDIT_ARCH[machine], number) for number in range(600)}
    assert answers == {ALLOW, EPERM, ENOSYS, ENOTTY}


@given(number=st.integers(0, 2**32 - 1), arch=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_is_killed(machine, number, arch):
    if arch != AUDIT_ARCH[machine]:
        assert run(floor.floor_program(machine, PID), arch, number) == KILL_PROCESS


@given(number=st.integers(0x40000000, 2**32 - 1))
def test_x32_and_negative_numbers_are_killed(number):
    assert run(floor.floor_program("x86_64", PID), AUDIT_ARCH["x86_64"], number) == KILL_PROCESS


READ_ONLY_FLAGS = [0, 0o2000000, 0o200000, 0o10000000, 0o100000, 0o4000, 1 << 40]
WRITING_FLAGS = [1, 2, 3, 0o100, 0o1000, 0o20200000, 0o20000000, 0o2002, (0x5A5A << 32) | 1]


@pytest.mark.parametrize("flags", READ_ONLY_FLAGS)
def test_opening_to_read_is_allowed(ask, flags):
    assert ask("openat", -100, 0, flags) == ALLOW
    assert ask("open", 0, flags) in (ALLOW, None)


@pytest.mark.parametrize("flags", WRITING_FLAGS)
def test_opening_to_write_create_or_truncate_is_refused(ask, flags):
    assert ask("openat", -100, 0, flags) == EPERM
    assert ask("open", 0, flags) in (EPERM, None)


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        (0x3D0F00, ALLOW),  # glibc's pthread_create
        (0x7D0F00, ALLOW),  # musl's
        (17, EPERM),  # fork
        (0x4111, EPERM),  # vfork
        (0x10000000 | 17, EPERM),
        *[
            (0x3D0F00 | 1 << bit, EPERM) for bit in (17, 25, 26, 27, 28, 29, 30)
        ],  # a thread in a new namespace
    ],
)
def test_clone_makes_threads_and_nothing_else(ask, flags, answer):
    assert ask("clone", flags) == answer


def test_clone3_seems_not_to_exist_so_that_the_c_library_falls_back(ask):
    assert ask("clone3", 0, 64) == ENOSYS


@pytest.mark.parametrize("name", ["kill", "tgkill"])
@pytest.mark.parametrize("target", [1, 0, -1, PID + 1, -PID])
def test_only_the_process_itself_is_signalled(ask, name, target):
    assert ask(name, PID, 9, 9) == ALLOW
    assert ask(name, target, 0, 0) == EPERM


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ((0, 4, 0, 1), ALLOW),
        ((PID, 4, 0, 1), ALLOW),
        ((77, 4, 0, 1), EPERM),
        ((0, 4, 1, 0), EPERM),
        ((0, 4, 1 << 33, 0), EPERM),
    ],
)
def test_limits_are_read_and_never_set(ask, arguments, answer):
    assert ask("prlimit64", *arguments) == answer


@pytest.mark.parametrize("request_", [0x5412, (1 << 32) | 0x5412, 0x40086602, 0xAE00, 0x541D])
def test_an_ioctl_that_changes_something_finds_no_terminal(ask, request_):
    assert ask("ioctl", 0, request_) == ENOTTY
    assert ask("ioctl", 0, 0x5401) == ALLOW


@pytest.mark.parametrize("command", [8, 10, 15, 37, 6, 1024, 1033, 1036])
def test_fcntl_neither_locks_nor_owns_nor_leases(ask, command):
    assert ask("fcntl", 3, command) == EPERM
    assert ask("fcntl", 3, 3) == ALLOW


@pytest.mark.parametrize("option", [1, 4, 15, 22, 24, 38, 47, 59, 0x59616D61])
def test_prctl_only_asks(ask, option):
    assert ask("prctl", option, 1) == EPERM
    assert ask("prctl", 39) == ALLOW
    assert ask("prctl", 0x53564D41) == ALLOW


def test_the_matrix_unit_may_be_asked_for_and_segments_not_changed():
    program = floor.floor_program("x86_64", PID)
    number = NUMBERS["x86_64"]["arch_prctl"]
    assert run(program, AUDIT_ARCH["x86_64"], number, 0x1023) == ALLOW
    assert run(program, AUDIT_ARCH["x86_64"], number, 0x1001) == EPERM  # SET_GS
    assert run(program, AUDIT_ARCH["x86_64"], number, 0x3001) == EPERM  # map vdso


@pytest.mark.parametrize("machine", MACHINES)
def test_every_jump_lands_inside_the_program_and_the_kernel_takes_its_length(machine):
    for devices in ("none", "cuda"):
        program = floor.floor_program(machine, PID, devices=devices)
        assert len(program) < bpf.MAX_INSTRUCTIONS
        assert len(bpf.pack(program)) == 8 * len(program)
        for at, (code, jump_true, jump_false, _) in enumerate(program):
            if code in (bpf.JUMP_EQ, bpf.JUMP_GE, bpf.JUMP_SET):
                assert at + 1 + max(jump_true, jump_false) < len(program)
        assert program[-1].code == bpf.RETURN


def test_a_program_that_the_kernel_would_not_take_is_refused():
    with pytest.raises(ValueError, match="4097"):
        bpf.pack([bpf.give(ALLOW)] * 4097)


# What CUDA gets on top, and what it does not.
CUDA_ALLOWED = ["bind", "listen", "getsockname", "memfd_create", "ftruncate", "flock"]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_cuda_profile_differs_only_where_the_specification_says(machine):
    plain = floor.floor_program(machine, PID)
    cuda = floor.floor_program(machine, PID, devices="cuda")
    arch, numbers = AUDIT_ARCH[machine], NUMBERS[machine]
    expected = {*CUDA_ALLOWED, "ioctl", "socket", "prctl", "openat", "open"}
    for name, number in numbers.items():
        probes = [(), (1,), (0, 1), (0, 0, 1), (0, 0, 2), (15,), (0, 0x5412)]
        differs = any(run(plain, arch, number, *p) != run(cuda, arch, number, *p) for p in probes)
        assert not differs or name in expected, name
    for name in CUDA_ALLOWED:
        assert run(cuda, arch, numbers[name]) == ALLOW
    assert run(cuda, arch, numbers["socket"], 1) == ALLOW
    for family in (2, 10, 16, 17, 40):
        assert run(cuda, arch, numbers["socket"], family) == EPERM
    for name in ("connect", "accept", "sendto", "sendmsg", "execve"):
        assert run(cuda, arch, numbers[name]) == EPERM
    assert run(cuda, arch, numbers["openat"], -100, 0, 2) == ALLOW  # device files; Landlock says which
    assert run(cuda, arch, numbers["openat"], -100, 0, 2 | 0o100) == EPERM
