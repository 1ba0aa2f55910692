"""The high-water clock: going back revives nothing, and one wrong jump forward destroys nothing.

`<state>/clock` is 64 bytes, overwritten in place: magic, high water, and a jump that waits for a second opinion.
Pure but for the two small file functions.  Source: spec vault-v1, section 9.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from fluxctx.vault.checksums import CHECKSUM_BYTES, checksum

MAGIC = b"fluxclk1"
JUMP_MS = 7 * 86_400_000
SECOND_OPINION_S = 3600.0
WRITE_EVERY_MS = 3_600_000
_CLOCK = struct.Struct("<8sqqd24s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What was seen: the latest time, and a jump (its time, and the running clock when it was seen)."""

    high_ms: int = 0
    jump_ms: int = 0
    jump_running_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What this moment means: `now_ms` closes items; `destroy_ms` is how far keys may be destroyed."""

    now_ms: int
    destroy_ms: int
    clock: Clock


def read_moment(clock: Clock, now_ms: int, running_s: float) -> Reading:
    """Decide; changes nothing.

    A clock that stands before the high water counts as the high water.  One that jumped more than seven days
    ahead closes at once, and destroys only when, an hour of running later, it still agrees.
    """
    if now_ms <= clock.high_ms:
        return Reading(now_ms=clock.high_ms, destroy_ms=clock.high_ms, clock=clock)
    if clock.high_ms and now_ms - clock.high_ms > JUMP_MS:
        waited_s = running_s - clock.jump_running_s
        known = (
            clock.jump_ms
            and waited_s >= 0
            and abs((now_ms - clock.jump_ms) / 1000 - waited_s) < SECOND_OPINION_S
        )
        if not known:
            waiting = replace(clock, jump_ms=now_ms, jump_running_s=running_s)
            return Reading(now_ms=now_ms, destroy_ms=clock.high_ms, clock=waiting)
        if waited_s < SECOND_OPINION_S:
            return Reading(now_ms=now_ms, destroy_ms=clock.high_ms, clock=clock)
    return Reading(now_ms=now_ms, destroy_ms=now_ms, clock=Clock(high_ms=now_ms))


def load_clock(path: Path) -> Clock:
    """A missing or torn clock starts anew: it can only be more careful, never less."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Clock()
    if (
        len(data) != _CLOCK.size + CHECKSUM_BYTES
        or checksum(data[:-CHECKSUM_BYTES]) != data[-CHECKSUM_BYTES:]
    ):
        return Clock()
    magic, high, jump, running, _ = _CLOCK.unpack(data[:-CHECKSUM_BYTES])
    return Clock(high_ms=high, jump_ms=jump, jump_running_s=running) if magic == MAGIC else Clock()


def save_clock(path: Path, clock: Clock) -> None:
    """Overwrite in place and fsync."""
    body = _CLOCK.pack(MAGIC, clock.high_ms, clock.jump_ms, clock.jump_running_s, bytes(24))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, body + checksum(body), 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def worth_saving(old: Clock, new: Clock) -> bool:
    """An hour's progress or a change of mind; a write a command would cost more than it protects."""
    return new.high_ms - old.high_ms >= WRITE_EVERY_MS or new.jump_ms != old.jump_ms
