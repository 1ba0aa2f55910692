"""A stand-in for the confined worker: a thread that speaks the protocol as badly as a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from fluxctx.confined.sandbox import Layers
from fluxctx.confined.spawn import Grants
from fluxctx.confined.wire import Channel, Frame

Script = Callable[[Channel, Frame], None]  # called with every frame but load


class FakeChild:
    """The surface of confined.spawn.Child, with a thread where the process would be."""

    def __init__(self, script: Script, *, facts: Mapping[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        self.pid = 0
        self.channel = Channel(ours.detach())
        self._theirs = theirs
        self._status: int | None = None
        self.received: list[Frame] = []
        threading.Thread(target=self._serve, args=(script, facts), daemon=True).start()

    def ready(self, timeout_s: float = 1.0) -> Layers:
        return Layers(platform="linux", seccomp=True)

    def stderr_tail(self) -> str:
        return "the prompt was: a red apple"

    def poll(self) -> int | None:
        return self._status

    def kill(self) -> None:
        self.end(-9)

    def wait(self, timeout_s: float | None = None) -> int:
        return -9 if self._status is None else self._status

    def close(self) -> None:
        self.kill()
        self.channel.close()

    def end(self, status: int) -> None:
        if self._status is None:
            self._status = status
            try:
                self._theirs.shutdown(socket.SHUT_RDWR)
            except OSError:  # the thread has closed it
                pass

    def _serve(self, script: Script, facts: Mapping[str, Any]) -> None:
        channel = Channel(self._theirs.fileno())
        try:
            while True:
                frame = channel.recv()
                self.received.append(frame)
                if frame.kind == "load":
                    channel.send("phase", {"name": "load"})
                    channel.send("loaded", dict(facts))
                else:
                    script(channel, frame)
        except (EOFError, OSError):
            self.end(0)
        finally:
            self._theirs.close()


class FakeSpawn:
    """Spawns fake children by one script and remembers them."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.children: list[FakeChild] = []
        self.grants: list[Grants] = []

    def __call__(
        self, module: str, *, grants: Grants, env_extra: Mapping[str, str] | None = None, threads: int = 1
    ) -> FakeChild:
        self.grants.append(grants)
        self.children.append(FakeChild(self._script, facts={"threads": threads}))
        return self.children[-1]


def draw(channel: Channel, frame: Frame) -> None:
    """What an honest worker answers to one render."""
    head = frame.head
    for index, seed in enumerate(head["seeds"]):
        channel.send("phase", {"name": "denoise"})
        for step in range(1, head["steps"] + 1):
            told = {"index": index, "step": step, "steps": head["steps"], "elapsed_s": step * 0.5}
            channel.send("progress", told)
        channel.send("result", result(head, index, seed), bytes(head["width_px"] * head["height_px"] * 3))
    channel.send("done", {})


def result(head: Mapping[str, Any], index: int, seed: int, **changes: Any) -> dict[str, Any]:
    size = {"width_px": head["width_px"], "height_px": head["height_px"]}
    runtime = {"torch": "2", "attestation": {"inference_mode": True}}
    return {"index": index, "seed": seed, **size, "runtime": runtime, **changes}
