"""Classic BPF by hand: the few instructions that a seccomp filter needs, and the blocks built from them.

A filter sees `struct seccomp_data {int nr; u32 arch; u64 instruction_pointer; u64 args[6];}` and returns an
action.  Arguments are 64 bit and the accumulator is 32, so a comparison names the half it looks at.  Source:
linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP_EQ = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_GE = 0x35  # BPF_JMP | BPF_JGE | BPF_K
JUMP_SET = 0x45  # BPF_JMP | BPF_JSET | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

KILL_PROCESS = 0x80000000
ALLOW = 0x7FFF0000
ERRNO = 0x00050000

NUMBER_OFFSET = 0
ARCH_OFFSET = 4
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS


class Instruction(NamedTuple):
    """One `struct sock_filter`: jumps are relative to the next instruction."""

    code: int
    jump_true: int
    jump_false: int
    value: int


def load(offset: int) -> Instruction:
    """Load the 32-bit word at `offset` of seccomp_data into the accumulator."""
    return Instruction(LOAD, 0, 0, offset)


def low(argument: int) -> int:
    """Offset of the low half of an argument (both supported architectures are little endian)."""
    return 16 + 8 * argument


def high(argument: int) -> int:
    """Offset of the high half of an argument."""
    return 20 + 8 * argument


def jump(code: int, value: int, *, true: int = 0, false: int = 0) -> Instruction:
    """Compare the accumulator with `value` and skip `true` or `false` instructions."""
    return Instruction(code, true, false, value)


def give(action: int) -> Instruction:
    """End with this action."""
    return Instruction(RETURN, 0, 0, action)


def refuse(errno: int) -> int:
    """The action that fails a call with `errno` and does not run it."""
    return ERRNO | errno


def pack(program: Sequence[Instruction]) -> bytes:
    """The program as an array of `struct sock_filter`.

    Raises:
        ValueError: longer than the kernel takes.
    """
    if len(program) > MAX_INSTRUCTIONS:
        raise ValueError(f"{len(program)} instructions are more than {MAX_INSTRUCTIONS}")
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
