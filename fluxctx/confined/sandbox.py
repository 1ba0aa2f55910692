"""Give everything up, in the one order that works, before anything that could be attacked is imported.

    1 die with the parent            7 no capability, in any set
    2 no stray descriptor            8 not dumpable: no core, no /proc/<pid>/mem for others
    3 one thread                     9 no new privileges
    4 no core, no file size         10 Landlock (after seccomp it would silently report ABI 0)
    5 an empty command line         11 seccomp on every thread: the floor
    6 user, network, IPC namespaces

5, 6 and 10 hold where the kernel has them, and Layers says whether they do; all others must hold, and with a
GPU 10 as well.  docs/spec/confinement-v1.md, section 3.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import stat
import sys
import time

from fluxctx.confined import kernel, landlock, seatbelt
from fluxctx.confined.floor import floor_program
from fluxctx.confined.grants import Grants, readable_paths, writable_paths
from fluxctx.confined.layers import Layers
from fluxctx.confined.syscalls import machine
from fluxctx.errors import ConfinementUnavailable

NULL_DEVICE = os.makedev(1, 3)


def confine(grants: Grants, *, parent_pid: int, channel_fd: int) -> Layers:
    """Confine the calling process for ever.

    Args:
        grants: What stays readable, and which devices.
        parent_pid: Who spawned us: gone already means nobody would end us.
        channel_fd: The one descriptor beyond 0, 1 and 2 that may be open.

    Raises:
        ConfinementUnavailable: a layer that must hold does not; `details["step"]` names it.
    """
    if sys.platform == "darwin":
        return confine_darwin(parent_pid)
    started = time.perf_counter()
    die_with_parent(parent_pid)
    check_descriptors(channel_fd)
    check_single_thread()
    limit_resources(grants)
    cmdline_empty = empty_command_line()
    userns = own_namespaces()
    drop_capabilities()
    forbid_dumping()
    forbid_new_privileges()
    landlock_abi = restrict_files(grants)
    set_floor(grants)
    return Layers(
        platform="linux",
        seccomp=True,
        landlock_abi=landlock_abi,
        userns=userns,
        caps_dropped=kernel.capabilities() == 0,
        no_new_privs=kernel.prctl(kernel.PR_GET_NO_NEW_PRIVS) == 1,
        undumpable=kernel.prctl(kernel.PR_GET_DUMPABLE) == 0,
        cmdline_empty=cmdline_empty,
        devices=grants.devices,
        setup_ms=round((time.perf_counter() - started) * 1e3, 3),
    )


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the thread that spawned us ends; nobody to die with is a reason to stop now."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    except OSError as error:
        raise unavailable("die with the parent", error) from error
    if os.getppid() != parent_pid:  # it ended before the line above
        os._exit(1)


def check_descriptors(channel_fd: int) -> None:
    """An open writable file would defeat every layer: only /dev/null, the pipe and the channel stay."""
    wanted = {0: stat.S_ISCHR, 1: stat.S_ISFIFO, 2: stat.S_ISFIFO, channel_fd: stat.S_ISSOCK}
    try:
        listed = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    except OSError as error:
        raise unavailable("check descriptors", error) from error
    for fd in listed:
        try:
            status = os.fstat(fd)
        except OSError:  # the listing's own
            continue
        if fd not in wanted or not wanted[fd](status.st_mode):
            raise unavailable("check descriptors")
        if fd == 0 and status.st_rdev != NULL_DEVICE:
            raise unavailable("check descriptors")
    if fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)  # subprocess opens it for both
        os.dup2(null, 0)
        os.close(null)


def check_single_thread() -> None:
    """A thread that exists already would keep its freedom under Landlock and forbid a user namespace."""
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208
        raise unavailable("be single threaded")


def limit_resources(grants: Grants) -> None:
    """No core dump; no byte into any file, should a descriptor to one ever appear.

    The NVIDIA driver sizes memory files, which count as files: with a GPU only the first holds.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if grants.devices == "none":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    except (OSError, ValueError) as error:
        raise unavailable("limit resources", error) from error


def empty_command_line() -> bool:
    """Take the notice board away: what a child writes over its argv, every user could read."""
    try:
        kernel.empty_command_line()
    except (OSError, ValueError, IndexError):
        return False
    return True


def own_namespaces() -> bool:
    """Leave the machine's network and IPC objects; refused in many containers and on some distributions.

    No uid map is needed: files are checked against the real uid.
    """
    try:
        kernel.syscall("unshare", kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC)
    except OSError:
        return False
    return True


def drop_capabilities() -> None:
    """Also what root has, and what the root of a fresh user namespace gets."""
    try:
        kernel.drop_capabilities()
        left = kernel.capabilities()
    except OSError as error:
        raise unavailable("drop capabilities", error) from error
    if left:
        raise unavailable("drop capabilities")


def forbid_dumping() -> None:
    """Close /proc/<pid>/mem and ptrace to others of the same uid, and core dumps piped to a program."""
    try:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    except OSError as error:
        raise unavailable("forbid dumping", error) from error


def forbid_new_privileges() -> None:
    """No set-uid program raises anything any more; without it an unprivileged process may set no filter."""
    try:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    except OSError as error:
        raise unavailable("forbid new privileges", error) from error


def restrict_files(grants: Grants) -> int:
    """Return Landlock's ABI, 0 where the kernel has none.  A device needs 5, for its ioctls."""
    try:
        version = landlock.restrict(readable_paths(grants), write=writable_paths(grants))
    except OSError as error:
        raise unavailable("restrict files", error) from error
    if grants.devices != "none" and version < 5:
        raise unavailable("restrict files")
    return version


def set_floor(grants: Grants) -> None:
    """Install the allow list on every thread."""
    here = machine()
    if here is None:
        raise unavailable("seccomp")
    try:
        kernel.install_filter(floor_program(here, os.getpid(), devices=grants.devices))
    except OSError as error:
        raise unavailable("seccomp", error) from error


def confine_darwin(parent_pid: int) -> Layers:
    """Check that sandbox-exec, which started us, holds; limits as on Linux.  Untested: no Mac was at hand."""
    limit_resources(Grants())
    if os.getppid() != parent_pid:
        os._exit(1)
    if not seatbelt.holds():
        raise unavailable("sandbox-exec")
    seatbelt.die_with_parent(parent_pid)
    return Layers(platform="darwin", seatbelt=True)


def unavailable(step: str, error: OSError | ValueError | None = None) -> ConfinementUnavailable:
    """The error for a layer that must hold and does not."""
    code = getattr(error, "errno", None)
    reason = f" ({os.strerror(code)})" if code else ""
    return ConfinementUnavailable(
        f"the worker cannot be confined: {step}{reason}",
        hint="nothing is generated without it; `fluxctx doctor --isolation` says what this kernel gives",
        details={"step": step},
    )
