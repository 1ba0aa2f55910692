"""Eight bytes against torn and rotten slots; no secret, no protection against an attacker (spec 3)."""

from __future__ import annotations

import hashlib

CHECKSUM_BYTES = 8


def checksum(data: bytes) -> bytes:
    """The first eight bytes of SHA-256."""
    return hashlib.sha256(data).digest()[:CHECKSUM_BYTES]
