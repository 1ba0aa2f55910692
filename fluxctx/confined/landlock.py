"""Landlock: which files may be read at all; TCP, abstract sockets and signals are closed a second time.

Source: Documentation/userspace-api/landlock.rst.  It must be asked for before the seccomp floor: after it,
the call fails and the ABI silently reads as 0.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from fluxctx.confined import kernel

CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
NET_BIND_AND_CONNECT_TCP = 3
SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 3
LOG_SAME_EXEC_OFF = 1  # ABI 7: a refused path would otherwise stand in the system's audit log


def abi() -> int:
    """The kernel's Landlock version; 0 where there is none or it is switched off."""
    try:
        return kernel.syscall("landlock_create_ruleset", 0, 0, CREATE_RULESET_VERSION)
    except OSError:
        return 0


def restrict(read: Iterable[str], *, write: Iterable[str] = ()) -> int:
    """Leave the process nothing but reading beneath `read`, and reading, writing and ioctl beneath `write`.

    Paths that do not exist are left out.  Nothing may be executed, made, removed or renamed anywhere.

    Returns:
        The ABI that holds; 0 if the kernel has no Landlock.

    Raises:
        OSError: the kernel has it and refused.
    """
    version = abi()
    if version < 1:
        return 0
    handled = handled_rights(version)
    ruleset = kernel.syscall("landlock_create_ruleset", *_attributes(version, handled), 0)
    try:
        for path in read:
            _allow(ruleset, path, READ_FILE | READ_DIR)
        for path in write:
            _allow(ruleset, path, (READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV) & handled)
        kernel.syscall("landlock_restrict_self", ruleset, LOG_SAME_EXEC_OFF if version >= 7 else 0)
    finally:
        os.close(ruleset)
    return version


def handled_rights(version: int) -> int:
    """Every file system right that this ABI knows: what is handled and not granted is refused."""
    rights = REFER - 1
    if version >= 2:
        rights |= REFER
    if version >= 3:
        rights |= TRUNCATE
    if version >= 5:
        rights |= IOCTL_DEV
    return rights


def _attributes(version: int, handled: int) -> tuple[bytes, int]:
    """`struct landlock_ruleset_attr` in the size that this ABI takes."""
    net = NET_BIND_AND_CONNECT_TCP if version >= 4 else 0
    scoped = SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0
    size = 8 if version < 4 else 16 if version < 6 else 24
    return struct.pack("<QQQ", handled, net, scoped)[:size], size


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine
        return
    try:
        if not os.path.isdir(path):  # noqa: PTH112  (runs before the floor: os only)
            rights &= ~READ_DIR
        kernel.syscall("landlock_add_rule", ruleset, RULE_PATH_BENEATH, struct.pack("<Qi", rights, parent), 0)
    finally:
        if not path.startswith(
            "/proc/self"
        ):  # the kernel forgets that inode, and the rule with it, if it may
            os.close(parent)
