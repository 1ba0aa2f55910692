"""The ways out, tried by whoever calls run(): a confined child, or the unsandboxed control that must succeed.

Every attempt is harmless where it gets through.  It returns True then, False where the answer was not the
prize, and raises OSError where it was refused.  A worker that answers a "probe" frame with
`channel.send("attempts", {"attempts": run(frame.head)})` can be probed while it is warm.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fluxctx.confined import kernel
from fluxctx.confined.wire import Channel

Targets = Mapping[str, Any]  # made by listeners.Listeners.targets()
TOKEN = b"fluxctx probe"
MOST_DESCRIPTORS = 65_536  # how far a left-open descriptor is looked for
KEY_BYTES = 32
PR_GET_PDEATHSIG = 2
AT_FDCWD = -100
O_WRONLY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way out: `mandatory` where the floor alone must close it, whatever else the kernel offers."""

    name: str
    group: str  # network, write, process, read or state
    mandatory: bool
    attempt: Callable[[Targets], bool]
    needs: str = ""  # the target without which it is left out


BY_NAME: dict[str, Way] = {}  # filled once, by the decorator below


def run(targets: Targets) -> list[dict[str, Any]]:
    """Try every way for which there is a target; returns its name, whether it got through, the errno."""
    results = []
    for way in BY_NAME.values():
        if way.needs and not targets.get(way.needs):
            continue
        try:
            through, reason = way.attempt(targets), ""
        except OSError as refused:
            through, reason = False, errno.errorcode.get(refused.errno or 0, str(refused.errno))
        results.append({"name": way.name, "through": through, "errno": reason})
    return results


def main(channel: Channel) -> None:
    """Answer probe frames until the parent is gone: what run_probe() starts when it is given no child."""
    while True:
        frame = channel.recv()
        channel.send("attempts", {"attempts": run(frame.head)})


def _way(
    name: str, group: str, *, needs: str = "", mandatory: bool = True
) -> Callable[[Callable[[Targets], bool]], Callable[[Targets], bool]]:
    """Enter an attempt into the table, in the order of this file."""

    def enter(attempt: Callable[[Targets], bool]) -> Callable[[Targets], bool]:
        BY_NAME[name] = Way(name=name, group=group, mandatory=mandatory, attempt=attempt, needs=needs)
        return attempt

    return enter


# --- network ------------------------------------------------------------------------------------------


@_way("connect over TCP, IPv4", "network", needs="tcp4")
def _connect_tcp4(targets: Targets) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
        tcp.settimeout(2)
        tcp.connect(("127.0.0.1", targets["tcp4"]))
    return True


@_way("connect over TCP, IPv6", "network", needs="tcp6")
def _connect_tcp6(targets: Targets) -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tcp:
        tcp.settimeout(2)
        tcp.connect(("::1", targets["tcp6"]))
    return True


@_way("connect by raw system calls", "network", needs="tcp4")
def _connect_raw(targets: Targets) -> bool:
    """By system call numbers: what a hook inside Python does not see."""
    fd = kernel.syscall("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    try:
        address = (
            struct.pack("<H", socket.AF_INET) + struct.pack(">H", targets["tcp4"]) + bytes([127, 0, 0, 1])
        )
        kernel.syscall("connect", fd, address + bytes(8), 16)
    finally:
        os.close(fd)
    return True


@_way("send over UDP", "network", needs="udp")
def _send_udp(targets: Targets) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(TOKEN, ("127.0.0.1", targets["udp"]))
    return True


@_way("listen on a TCP port", "network", needs="tcp4")
def _listen_tcp(_: Targets) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen(1)
    return True


@_way("connect to a socket file", "network", needs="unix")
def _connect_unix(targets: Targets) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix:
        unix.connect(targets["unix"])
    return True


@_way("connect to an abstract socket", "network", needs="abstract")
def _connect_abstract(targets: Targets) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix:
        unix.connect("\0" + targets["abstract"])
    return True


@_way("pass a descriptor over a socket", "network")
def _send_over_channel_socket(_: Targets) -> bool:
    """The system call that carries descriptors; on a pair of its own, so nothing is left in the channel."""
    one, other = socket.socketpair()
    with one, other:
        one.sendmsg([TOKEN], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", 0))])
    return True


# --- files --------------------------------------------------------------------------------------------


@_way("open a file for writing", "write", needs="victim")
def _write_file(targets: Targets) -> bool:
    os.close(os.open(targets["victim"], os.O_WRONLY | os.O_CLOEXEC))
    return True


@_way("open a file for writing in a new thread", "write", needs="victim")
def _write_file_from_new_thread(targets: Targets) -> bool:
    caught: list[OSError] = []

    def attempt() -> None:
        try:
            _write_file(targets)
        except OSError as refused:
            caught.append(refused)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]
    return True


@_way("create a file", "write", needs="directory")
def _create_file(targets: Targets) -> bool:
    path = f"{targets['directory']}/made-{os.getpid()}"
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.unlink(path)
    return True


@_way("set a file's times", "write", needs="victim")
def _set_file_time(targets: Targets) -> bool:
    """Sixteen bytes of somebody's prompt fit into a time stamp."""
    os.utime(targets["victim"], (0x666C7578, 0x63747820))
    return True


@_way("make a memory file", "write")
def _make_memory_file(_: Targets) -> bool:
    os.close(kernel.syscall("memfd_create", b"probe", 1))
    return True


@_way("use a descriptor the parent left open", "write", needs="leak")
def _use_leaked_descriptor(targets: Targets) -> bool:
    """Find a descriptor of the parent's that should have been closed before exec."""
    for fd in range(3, MOST_DESCRIPTORS):
        try:
            status = os.fstat(fd)
        except OSError:
            continue
        if [status.st_dev, status.st_ino] == targets["leak"]:
            return os.write(fd, TOKEN) > 0
    raise OSError(errno.EBADF, "no such descriptor")


@_way("read a file of the user", "read", needs="victim", mandatory=False)
def _read_file(targets: Targets) -> bool:
    fd = os.open(targets["victim"], os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(os.read(fd, 1))
    finally:
        os.close(fd)


@_way("list a directory of the user", "read", needs="directory", mandatory=False)
def _list_directory(targets: Targets) -> bool:
    return bool(os.listdir(targets["directory"]))  # noqa: PTH208


# --- other processes ----------------------------------------------------------------------------------


@_way("fork", "process")
def _fork(_: Targets) -> bool:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


@_way("execute a program", "process")
def _execute(_: Targets) -> bool:
    """A path that is not there: "no such file" comes only from a kernel that would have run it."""
    nothing = bytes(8)
    try:
        kernel.syscall("execve", b"/nonexistent/fluxctx-probe", nothing, nothing)
    except OSError as refused:
        if refused.errno == errno.ENOENT:
            return True
        raise
    return True


@_way("signal another process", "process", needs="pid")
def _signal_other(targets: Targets) -> bool:
    os.kill(targets["pid"], 0)
    return True


@_way("read the parent's memory through /proc", "read", needs="key_sha256", mandatory=False)
def _read_memory(targets: Targets) -> bool:
    fd = os.open(f"/proc/{targets['pid']}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.pread(fd, KEY_BYTES, targets["key_address"])
    finally:
        os.close(fd)
    return bool(hashlib.sha256(found).hexdigest() == targets["key_sha256"])


@_way("read the parent's memory by system call", "process", needs="key_sha256")
def _read_memory_by_call(targets: Targets) -> bool:
    found = ctypes.create_string_buffer(KEY_BYTES)
    ours = struct.pack("<QQ", ctypes.addressof(found), KEY_BYTES)
    theirs = struct.pack("<QQ", targets["key_address"], KEY_BYTES)
    kernel.syscall("process_vm_readv", targets["pid"], ours, 1, theirs, 1, 0)
    return bool(hashlib.sha256(found.raw).hexdigest() == targets["key_sha256"])


@_way("make System V shared memory", "process")
def _make_shared_memory(_: Targets) -> bool:
    segment = kernel.syscall("shmget", 0, 4096, 0o1600)
    kernel.syscall("shmctl", segment, 0, 0)  # IPC_RMID
    return True


# --- what the process still is ------------------------------------------------------------------------


@_way("share the machine's network namespace", "state", needs="network", mandatory=False)
def _share_network(targets: Targets) -> bool:
    return bool(os.readlink("/proc/self/ns/net") == targets["network"])  # noqa: PTH115


@_way("hold a capability", "state", needs="privileged")
def _hold_capability(_: Targets) -> bool:
    return kernel.capabilities() != 0


@_way("be dumped or traced", "state")
def _be_dumped(_: Targets) -> bool:
    return kernel.prctl(kernel.PR_GET_DUMPABLE) == 1


@_way("leave a core dump", "state", needs="core")
def _leave_core(_: Targets) -> bool:
    import resource

    return resource.getrlimit(resource.RLIMIT_CORE)[1] != 0


@_way("make a file grow", "state")
def _grow_file(_: Targets) -> bool:
    import resource

    return resource.getrlimit(resource.RLIMIT_FSIZE)[1] != 0


@_way("gain privileges by a set-uid program", "state")
def _gain_privileges(_: Targets) -> bool:
    return kernel.prctl(kernel.PR_GET_NO_NEW_PRIVS) == 0


@_way("outlive the parent", "state")
def _outlive_parent(_: Targets) -> bool:
    signal = ctypes.create_string_buffer(4)
    kernel.syscall("prctl", PR_GET_PDEATHSIG, signal, 0, 0, 0)
    return signal.raw == bytes(4)
