"""What held when a child was confined: plain values that cross the channel and go into the ledger."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What held when the child was confined, as it reported before it imported anything else."""

    platform: str
    seccomp: bool = False
    landlock_abi: int = 0
    userns: bool = False  # a user, a network and an IPC namespace of its own
    caps_dropped: bool = False
    no_new_privs: bool = False
    undumpable: bool = False
    cmdline_empty: bool = False  # /proc/<pid>/cmdline, which everybody reads and the child could rewrite
    seatbelt: bool = False  # macOS
    devices: str = "none"
    setup_ms: float = 0.0

    @property
    def enforced(self) -> bool:
        """Whether the platform's mandatory floor holds."""
        return self.seccomp or self.seatbelt

    def missing(self) -> tuple[str, ...]:
        """The optional layers that this kernel did not give."""
        if self.platform != "linux":
            return ()
        return tuple(
            name
            for name, holds in (
                ("landlock", self.landlock_abi > 0),
                ("namespaces", self.userns),
                ("command line", self.cmdline_empty),
            )
            if not holds
        )
