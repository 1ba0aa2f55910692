"""The parent's side of the probe: what the ways out aim at, and what arrived."""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fluxctx.confined import kernel
from fluxctx.confined.attempts import KEY_BYTES

VICTIM = b"a file of the user\n"


class Listeners:
    """Sockets that count who reaches them, a file, a leaking descriptor and a key in memory."""

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="fluxctx-probe-")
        self.directory = Path(self._scratch.name)
        self.victim = self.directory / "victim"
        self.victim.write_bytes(VICTIM)
        self._leak = (self.directory / "leak").open("wb", buffering=0)
        os.set_inheritable(self._leak.fileno(), True)
        self._key = ctypes.create_string_buffer(secrets.token_bytes(KEY_BYTES), KEY_BYTES)
        self._streams: dict[str, socket.socket] = {}
        self._stream("tcp4", socket.AF_INET, ("127.0.0.1", 0))
        self._stream("tcp6", socket.AF_INET6, ("::1", 0))
        self._stream("unix", socket.AF_UNIX, str(self.directory / "socket"))
        self._stream("abstract", socket.AF_UNIX, f"\0fluxctx-probe-{secrets.token_hex(8)}")
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._udp.setblocking(False)

    def targets(self) -> dict[str, Any]:
        """What an attempt needs to know, as JSON; the key's digest only, never the key."""
        import resource

        leak = os.fstat(self._leak.fileno())
        found: dict[str, Any] = {
            "udp": self._udp.getsockname()[1],
            "directory": str(self.directory),
            "victim": str(self.victim),
            "leak": [leak.st_dev, leak.st_ino],
            "pid": os.getpid(),
            "key_address": ctypes.addressof(self._key),
            "key_sha256": hashlib.sha256(self._key.raw).hexdigest(),
            "network": os.readlink("/proc/self/ns/net"),  # noqa: PTH115
            "privileged": kernel.capabilities() != 0,
            "core": resource.getrlimit(resource.RLIMIT_CORE)[1] != 0,
        }
        for name, stream in self._streams.items():
            address = stream.getsockname()
            if name == "abstract":
                found[name] = address[1:].decode()
            else:
                found[name] = address if name == "unix" else address[1]
        return found

    @property
    def leak_fd(self) -> int:
        """An inheritable descriptor, open for writing: a confined child must not have it."""
        return self._leak.fileno()

    def expected(self) -> int:
        """How many listeners somebody free of all confinement reaches."""
        return len(self._streams) + 1

    def reached(self) -> set[str]:
        """The listeners reached since the last call."""
        found = set()
        for name, stream in self._streams.items():
            while True:
                try:
                    stream.accept()[0].close()
                except BlockingIOError:
                    break
                found.add(name)
        while True:
            try:
                self._udp.recv(64)
            except BlockingIOError:
                break
            found.add("udp")
        return found

    def close(self) -> None:
        """Close everything and remove the scratch directory."""
        for stream in (*self._streams.values(), self._udp):
            stream.close()
        self._leak.close()
        self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _stream(self, name: str, family: int, address: Any) -> None:
        """Listen, or leave this one out where the machine has no such family."""
        try:
            stream = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            return
        try:
            stream.bind(address)
            stream.listen(16)
        except OSError:
            stream.close()
            return
        stream.setblocking(False)
        self._streams[name] = stream


def listen() -> Listeners:
    """Open all listeners; the caller closes them."""
    return Listeners()
