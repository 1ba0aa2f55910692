"""Tink's streaming AEAD, AES256_GCM_HKDF_1MB: sealed blobs that other tools can open, and range reads.

    header   = 40 | salt (32) | nonce prefix (7)
    key      = HKDF-SHA256(item key, salt, info = associated data)
    segment  = AES-256-GCM(key, nonce = prefix | BE32 counter | last), 1 MiB of ciphertext; the first is shorter

Source: developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming; spec vault-v1, section 7.
"""

from __future__ import annotations

import os
import secrets
import struct
from typing import BinaryIO, Final

from fluxctx.errors import IntegrityError, VaultDamaged
from fluxctx.vault.crypto import TAG_BYTES, SegmentCipher, hkdf

SEGMENT: Final = 1 << 20
SALT_BYTES: Final = 32
PREFIX_BYTES: Final = 7
HEADER_BYTES: Final = 1 + SALT_BYTES + PREFIX_BYTES
FIRST_PLAIN: Final = SEGMENT - HEADER_BYTES - TAG_BYTES
PLAIN: Final = SEGMENT - TAG_BYTES


def damaged() -> VaultDamaged:
    return VaultDamaged("a sealed file failed authentication", hint="`fluxctx vault verify` says which item")


def _nonce(prefix: bytes, counter: int, last: bool) -> bytes:
    return prefix + struct.pack(">IB", counter, last)


def write_sealed(file: BinaryIO, key: bytes, context: bytes, data: bytes | memoryview) -> int:
    """Seal `data` into an open file; returns the bytes written.  One buffer, whatever the size."""
    salt, prefix = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(PREFIX_BYTES)
    cipher = SegmentCipher(hkdf(key, salt=salt, info=context))
    file.write(bytes([HEADER_BYTES]) + salt + prefix)
    view, position, counter, written = memoryview(data), 0, 0, HEADER_BYTES
    buffer = bytearray(SEGMENT)
    while True:
        room = FIRST_PLAIN if counter == 0 else PLAIN
        chunk = view[position : position + room]
        position += len(chunk)
        last = position >= len(view)
        sealed = memoryview(buffer)[: len(chunk) + TAG_BYTES]
        cipher.encrypt_into(_nonce(prefix, counter, last), chunk, sealed)
        file.write(sealed)
        written += len(sealed)
        if last:
            return written
        counter += 1


def plain_size(sealed_size: int) -> int:
    """How many bytes a blob of this size holds; raises VaultDamaged when no blob can be that long."""
    if sealed_size < HEADER_BYTES + TAG_BYTES:
        raise damaged()
    segments = -(-sealed_size // SEGMENT)
    if (sealed_size - (segments - 1) * SEGMENT) < TAG_BYTES + (1 if segments > 1 else HEADER_BYTES):
        raise damaged()
    return sealed_size - HEADER_BYTES - segments * TAG_BYTES


def read_sealed(fd: int, key: bytes, context: bytes, start: int = 0, length: int | None = None) -> bytes:
    """Open a range of a blob, decrypting only the segments it lies in.

    A range is only released once the blob's last segment has verified too: a truncated blob opens nowhere.
    Raises VaultDamaged.
    """
    sealed_size = os.fstat(fd).st_size
    total = plain_size(sealed_size)
    end = total if length is None else min(total, start + length)
    header = os.pread(fd, HEADER_BYTES, 0)
    if header[0] != HEADER_BYTES:
        raise damaged()
    prefix = header[1 + SALT_BYTES :]
    cipher = SegmentCipher(hkdf(key, salt=header[1 : 1 + SALT_BYTES], info=context))
    final = -(-sealed_size // SEGMENT) - 1
    wanted = set(range(_segment_of(start), _segment_of(max(start, end - 1)) + 1)) if start < end else set()
    pieces = {}
    for counter in sorted(wanted | {final}):
        begin = HEADER_BYTES if counter == 0 else counter * SEGMENT
        sealed = os.pread(fd, min((counter + 1) * SEGMENT, sealed_size) - begin, begin)
        try:
            pieces[counter] = cipher.decrypt(_nonce(prefix, counter, counter == final), sealed)
        except IntegrityError:
            raise damaged() from None
    if not wanted:
        return b""
    first = min(wanted)
    base = 0 if first == 0 else FIRST_PLAIN + (first - 1) * PLAIN
    joined = pieces[first] if len(wanted) == 1 else b"".join(pieces[counter] for counter in sorted(wanted))
    return joined if (start, end) == (base, base + len(joined)) else joined[start - base : end - base]


def _segment_of(position: int) -> int:
    return 0 if position < FIRST_PLAIN else 1 + (position - FIRST_PLAIN) // PLAIN
