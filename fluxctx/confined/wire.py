"""Frames over one socketpair, with read() and write() only: the seccomp floor refuses sendto and recvfrom.

    frame  = magic kind-length head-length blob-length kind head blob
    magic  = "FXC1" ; kind-length = u8 ; head-length = u32 ; blob-length = u64 (little endian)
    kind   = 1*32( a-z / 0-9 / "-" / "_" ) ; head = one JSON object in UTF-8

Both sides distrust each other: every length is checked before anything of that length is allocated, and what
is not a frame raises WireError.  A Channel has one reader and one writer thread at a time.
"""

from __future__ import annotations

import json
import os
import re
import struct
from typing import Any, NamedTuple, NoReturn

from fluxctx.errors import WireError

MAGIC = b"FXC1"
PREFIX = struct.Struct("<4sBIQ")
MAX_HEAD_BYTES = 1 << 20
MAX_BLOB_BYTES = 1 << 30
CHUNK_BYTES = 1 << 20
KIND = re.compile(rb"[a-z0-9_-]{1,32}")


class Frame(NamedTuple):
    """One message: what it is, its JSON object, its bytes."""

    kind: str
    head: dict[str, Any]
    blob: bytes


class Channel:
    """One end of the socketpair between a parent and its confined child; owns the descriptor.

    Where there are only pipes (Windows), `write_fd` is the one that is written to.  `max_blob_bytes` may be
    lowered at any time, say to what a job's pixels can be.
    """

    def __init__(self, fd: int, *, write_fd: int | None = None, max_blob_bytes: int = MAX_BLOB_BYTES) -> None:
        self._fd = fd
        self._write_fd = fd if write_fd is None else write_fd
        self.max_blob_bytes = max_blob_bytes

    def send(self, kind: str, head: dict[str, Any], blob: bytes | bytearray | memoryview = b"") -> None:
        """Write one frame whole.

        Raises:
            WireError: the frame is over a limit or its head is not JSON; nothing was written.
            EOFError: the peer is gone.
        """
        body = memoryview(blob).cast("B")
        start = encode_start(kind, head, len(body), self.max_blob_bytes)
        if len(body) <= CHUNK_BYTES:
            self._write(memoryview(start + bytes(body)))  # one write for a small frame
        else:
            self._write(memoryview(start))
            self._write(body)

    def recv(self) -> Frame:
        """Read one frame.

        Raises:
            WireError: what arrived is not a frame; the channel is of no further use.
            EOFError: the peer is gone.
        """
        magic, kind_bytes, head_bytes, blob_bytes = PREFIX.unpack(self._read(PREFIX.size))
        if magic != MAGIC:
            raise WireError("the confined child sent something that is not a frame")
        check_lengths(head_bytes, blob_bytes, self.max_blob_bytes)
        kind = self._read(kind_bytes)
        if not KIND.fullmatch(kind):
            raise WireError("the confined child sent a frame without a proper kind")
        head = decode_head(self._read(head_bytes))
        return Frame(kind.decode("ascii"), head, self._read(blob_bytes))

    def fileno(self) -> int:
        """Return the descriptor that is read, for select and poll."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor; doing it twice is harmless."""
        open_fds = {self._fd, self._write_fd} - {-1}
        self._fd = self._write_fd = -1
        for fd in open_fds:
            os.close(fd)

    def _write(self, data: memoryview) -> None:
        try:
            while data:
                data = data[os.write(self._write_fd, data) :]
        except (BrokenPipeError, ConnectionResetError) as gone:
            raise EOFError("the peer is gone") from gone

    def _read(self, count: int) -> bytes:
        """Read exactly `count` bytes; memory grows with what arrives, not with what was announced."""
        chunks: list[bytes] = []
        while count:
            try:
                chunk = os.read(self._fd, min(count, CHUNK_BYTES))
            except ConnectionResetError as gone:
                raise EOFError("the peer is gone") from gone
            if not chunk:
                raise EOFError("the peer is gone")
            chunks.append(chunk)
            count -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def encode_start(kind: str, head: dict[str, Any], blob_bytes: int, max_blob_bytes: int) -> bytes:
    """Everything of a frame but its blob; raises WireError."""
    name = kind.encode("utf-8", "surrogatepass")
    if not KIND.fullmatch(name):
        raise WireError("a frame's kind is 1 to 32 of a-z, 0-9, - and _")
    try:
        text = json.dumps(head, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        raise WireError("a frame's head must be JSON") from None  # the cause would quote the head
    check_lengths(len(text), blob_bytes, max_blob_bytes)
    return PREFIX.pack(MAGIC, len(name), len(text), blob_bytes) + name + text


def check_lengths(head_bytes: int, blob_bytes: int, max_blob_bytes: int) -> None:
    """Raises WireError where a frame would be larger than what either side accepts."""
    if head_bytes > MAX_HEAD_BYTES:
        raise WireError(f"a frame's head of {head_bytes} bytes is over the limit of {MAX_HEAD_BYTES}")
    if blob_bytes > max_blob_bytes:
        raise WireError(f"a frame's blob of {blob_bytes} bytes is over the limit of {max_blob_bytes}")


def decode_head(text: bytes) -> dict[str, Any]:
    """Parse a head; raises WireError for all that is not one JSON object of finite numbers."""
    try:
        head = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise WireError("a frame's head is not JSON") from None
    if not isinstance(head, dict):
        raise WireError("a frame's head is not a JSON object")
    return head


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
