"""Every test has a home of its own, no passphrase of the developer's, and no network."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Home, make_home


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh FLUXCTX_HOME, and nothing else of the environment that could change what fluxctx does."""
    for name in list(os.environ):
        if name.startswith("FLUXCTX_"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("FLUXCTX_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def descriptors_are_closed() -> Iterator[None]:
    """A test that leaks descriptors would make the next ones fail far from the cause."""
    table = Path("/proc/self/fd")
    before = len(list(table.iterdir())) if table.exists() else 0
    yield
    assert not table.exists() or len(list(table.iterdir())) < before + 64


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine, in this process."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0] if isinstance(address, tuple) else ""
            if host not in {"127.0.0.1", "::1", "localhost"}:
                raise AssertionError("a test tried to reach the network")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home with a passphrase file, and a way to run fluxctx in it."""
    return make_home(tmp_path / "cli")


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that a module's tests share, since a real picture costs seconds."""
    return make_home(tmp_path_factory.mktemp("shared"))
