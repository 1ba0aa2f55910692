"""The parent's side of a confined child: start it fresh, talk to it over one channel, end it.

The child dies with its parent (PDEATHSIG), strictly speaking with the THREAD that started it.  So each child
is started by a thread of its own that drains its output and ends after it: callers may spawn from any thread.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from fluxctx.confined import seatbelt, windows
from fluxctx.confined.grants import Grants, readable_paths
from fluxctx.confined.layers import Layers
from fluxctx.confined.syscalls import machine
from fluxctx.confined.wire import Channel
from fluxctx.errors import ConfinementUnavailable, EngineFailed, TimedOut

__all__ = ["Child", "Grants", "Layers", "protect_parent", "spawn"]

STDERR_TAIL_BYTES = 1 << 16
READY_TIMEOUT_S = 120.0
END_TIMEOUT_S = 10.0

# All the environment there is: nothing of the user's reaches the child.
ENVIRONMENT: Mapping[str, str] = {
    "PATH": "",
    "HOME": "/nonexistent",
    "USER": "fluxctx",  # torch asks for a user name
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    # nothing is looked up, nothing is reported (the kernel refuses both anyway)
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # the onnxruntime 1.32 wheel reports to mobile.events.data.microsoft.com
    # an existing directory: torch makes its cache at import and dies where it cannot
    "TORCHINDUCTOR_CACHE_DIR": "/",
    "TRITON_CACHE_DIR": "/",
    "CUDA_CACHE_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Launched(NamedTuple):
    """A started process, its channel, and the pipe that carries what it prints."""

    process: subprocess.Popen[bytes]
    channel: Channel
    output: IO[bytes]


class Child:
    """A running confined child; leaving its context kills it."""

    def __init__(self, launch: Callable[[], Launched], *, start: Mapping[str, Any]) -> None:
        """Launch the process in a thread of its own and send it the start frame; use spawn()."""
        self._tail = bytearray()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._layers: Layers | None = None
        self.attempts: tuple[dict[str, Any], ...] = ()  # what the child tried at its start, for probe.py
        launched: Future[Launched] = Future()
        threading.Thread(
            target=self._tend, args=(launch, launched), daemon=True, name="confined-child"
        ).start()
        try:
            self._process, self.channel, _ = launched.result()
        except OSError as error:
            raise ConfinementUnavailable(
                "the confined child cannot be started", hint="is there memory, and may processes be made?"
            ) from error
        self.pid = self._process.pid
        try:
            self.channel.send("start", dict(start))
        except EOFError:
            pass  # it ended already; ready() says so

    @property
    def layers(self) -> Layers | None:
        """What held when the child was confined; None before ready()."""
        return self._layers

    def ready(self, timeout_s: float = READY_TIMEOUT_S) -> Layers:
        """Wait until the child is confined.

        Raises:
            ConfinementUnavailable: a layer that must hold does not.
            EngineFailed: the child ended without a word.
            TimedOut: it took longer than `timeout_s`.
        """
        if self._layers is not None:
            return self._layers
        late = threading.Event()

        def end() -> None:
            late.set()
            self.kill()

        timer = threading.Timer(timeout_s, end)
        timer.daemon = True
        timer.start()
        try:
            frame = self.channel.recv()
        except EOFError:
            if late.is_set():
                raise TimedOut(
                    "the confined child did not start in time", hint="is the machine overloaded?"
                ) from None
            raise EngineFailed(
                "the confined child ended before it was confined",
                hint="is fluxctx installed in a virtual environment or for the whole machine?",
            ) from None
        finally:
            timer.cancel()
        if frame.kind != "floor":
            raise refusal(frame.head)
        self._layers = Layers(**frame.head["layers"])
        self.attempts = tuple(frame.head["attempts"])
        return self._layers

    def stderr_tail(self) -> str:
        """Return the last of what the child printed.  It may hold parts of a prompt: log it nowhere."""
        with self._lock:
            return self._tail.decode("utf-8", "replace")

    def kill(self) -> None:
        """Kill the child; harmless when it is gone."""
        with self._lock:  # the tending thread reaps under this lock, so the pid is still the child's
            if not self._ended.is_set():
                self._kill()

    def _kill(self) -> None:
        if sys.platform == "win32":
            self._process.kill()
        else:
            os.kill(self.pid, signal.SIGKILL)  # Popen.kill() would reap first

    def poll(self) -> int | None:
        """Return the exit status, or None while the child runs."""
        return self._process.returncode if self._ended.is_set() else None

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the child's end and return its exit status (-9 for a killed one); raises TimedOut."""
        if not self._ended.wait(timeout_s):
            raise TimedOut("the confined child is still running")
        return int(self._process.returncode)

    def close(self) -> None:
        """Kill the child, wait for its end and close the channel."""
        self.kill()
        try:
            self.wait(END_TIMEOUT_S)
        finally:
            self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _tend(self, launch: Callable[[], Launched], launched: Future[Launched]) -> None:
        """Launch the child, drain what it prints, reap it; this thread's life bounds the child's."""
        try:
            process, channel, output = launch()
        except BaseException as error:  # noqa: BLE001  (handed to the thread that asked)
            launched.set_exception(error)
            return
        launched.set_result(Launched(process, channel, output))
        with output:
            while chunk := os.read(output.fileno(), STDERR_TAIL_BYTES):
                with self._lock:
                    self._tail += chunk
                    del self._tail[:-STDERR_TAIL_BYTES]
        if hasattr(os, "waitid"):  # wait without reaping, so that kill() never meets a pid that is another's
            with suppress(ChildProcessError):  # somebody else reaped it
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        else:
            process.wait()
        with self._lock:
            process.wait()
            self._ended.set()


def launch(
    command: Callable[[str], list[str]], environment: Mapping[str, str], leak: tuple[int, ...] = ()
) -> Launched:
    """Start `command(fd)` with one end of a new socketpair as its only extra descriptor.

    `leak` is for the probe's control alone: descriptors that it inherits on top.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        fd = theirs.fileno()
        try:
            process = subprocess.Popen(
                command(str(fd)),
                env=dict(environment),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                close_fds=True,
                pass_fds=(fd, *leak),
                start_new_session=True,  # Ctrl-C at the terminal is the parent's to handle
            )
        except BaseException:
            ours.close()
            raise
    assert process.stdout is not None
    return Launched(process, Channel(ours.detach()), process.stdout)


def spawn(
    module: str,
    *,
    grants: Grants,
    env_extra: Mapping[str, str] | None = None,
    threads: int = 1,
    targets: Mapping[str, Any] | None = None,
    windows_administrator_accepts: bool = False,
) -> Child:
    """Start `module` in a confined child; its `main(channel)` runs once everything has been given up.

    Args:
        module: A dotted name; it is imported by the child only, after the floor holds.
        grants: What the child may read, and which devices it may use.
        env_extra: Added to the child's otherwise fixed environment; never anything secret.
        threads: For OpenMP and MKL.
        targets: What the child tries to reach before it imports `module`; use probe.spawn_probed().
        windows_administrator_accepts: The administrator's recorded setting.  On Windows, which has no floor,
            the child starts without one only if it is true; everywhere else it changes nothing.

    Raises:
        ConfinementUnavailable: this platform has no floor; no flag lifts it.
    """
    check_platform(windows_administrator_accepts)
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    environment = {**ENVIRONMENT, **counts, **(env_extra or {})}
    start: dict[str, Any] = {"parent_pid": os.getpid(), "read": list(grants.read), "devices": grants.devices}
    start |= {"targets": dict(targets)} if targets else {}

    def command(fd: str) -> list[str]:
        return child_command(module, fd, grants)

    if sys.platform == "win32":
        return Child(lambda: launch_on_windows(command, environment), start=start)
    return Child(lambda: launch(command, environment), start=start)


def launch_on_windows(command: Callable[[str], list[str]], environment: Mapping[str, str]) -> Launched:
    """Start `command("stdio")` without a floor; spawn() has looked at the administrator's setting."""
    process = windows.start_process(command, environment)
    assert process.stderr is not None
    return Launched(process, windows.channel_of_parent(process), process.stderr)


def child_command(module: str, fd: str, grants: Grants) -> list[str]:
    """The child's command line: module, descriptor, and on macOS the profile; nothing secret."""
    arguments = ["-I", "-B", "-m", "fluxctx.confined.child", module, fd]
    if sys.platform == "darwin":
        return [*seatbelt.command(sys.executable, readable_paths(grants)), *arguments]
    return [sys.executable, *arguments]


def check_platform(windows_administrator_accepts: bool = False) -> None:
    """Raises ConfinementUnavailable where there is no floor to set."""
    if sys.platform == "darwin" or (sys.platform == "win32" and windows_administrator_accepts):
        return
    if sys.platform != "linux":
        raise ConfinementUnavailable(
            "this platform cannot confine the worker without an administrator",
            hint="use Linux or macOS, or a Linux container or virtual machine on this one",
        )
    if machine() is None:
        raise ConfinementUnavailable(
            "there is no system call table for this architecture", hint="use an x86-64 or aarch64 machine"
        )


def refusal(head: Mapping[str, Any]) -> ConfinementUnavailable:
    """The child's own words for why it cannot be confined."""
    details = head.get("details")
    return ConfinementUnavailable(
        str(head.get("message", "the worker cannot be confined")),
        hint=str(head.get("hint", "")),
        details=details if isinstance(details, dict) else None,
    )


def protect_parent() -> None:
    """Keep this process's memory from core dumps and from other processes of the same user.

    For every process that sees plaintext or keys, called before it spawns anything: a piped core dump ignores
    RLIMIT_CORE, and without it a child of the same uid could open /proc/<parent>/mem.
    """
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        from fluxctx.confined import kernel

        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
