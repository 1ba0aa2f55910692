"""Eight bytes against torn, rotten and misplaced slots; no secret, no protection against an attacker (spec 2)."""

from __future__ import annotations

import hashlib
import struct

CHECKSUM_BYTES = 8


def checksum(data: bytes) -> bytes:
    """The first eight bytes of SHA-256."""
    return hashlib.sha256(data).digest()[:CHECKSUM_BYTES]


def check(vault_id: bytes, position: int, data: bytes) -> bytes:
    """The check of `data` at its place in a vault's `keys`: a slot copied elsewhere is a damaged one."""
    return checksum(b"fluxctx/v1/check\0" + vault_id + struct.pack("<Q", position) + data)
