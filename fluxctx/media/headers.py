"""Read what a picture file says of itself, before any decoder sees it.

Pure: bytes in, facts out.  Format comes from the content, never from a name.  The pixel count is checked
here, so that a bomb is refused before a decoder allocates for it, and so is a file that ends too early:
decoders disagree about those, and some return half a picture.

Source: PNG 3rd edition (W3C 2025) section 5; ITU-T T.81 annex B; RFC 9649 (WebP) section 2.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from fluxctx.media.faults import MAX_FILE_BYTES, MAX_PIXELS, BadPicture

Format = Literal["png", "jpeg", "webp"]

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 100_000  # a 64 MiB PNG cut into the usual 8 KiB chunks has 8,192
_OTHERS = (b"GIF8", b"BM", b"II*\0", b"MM\0*", b"%PDF", b"<svg", b"<?xml", b"\xff\x0a", b"\0\0\0\x0cJXL ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Format and size as the file claims them."""

    format: Format
    width_px: int
    height_px: int


def read_header(content: bytes) -> Header:
    """Identify a picture and check that it is whole and of bearable size.

    Raises:
        BadPicture: with the reason; the pixels themselves may still turn out damaged.
    """
    if not content:
        raise BadPicture("empty")
    if len(content) > MAX_FILE_BYTES:
        raise BadPicture("too_large")
    try:
        header = _read(content)
    except (struct.error, IndexError) as short:
        raise BadPicture("truncated") from short
    if not header.width_px or not header.height_px:
        raise BadPicture("damaged")
    if header.width_px * header.height_px > MAX_PIXELS:
        raise BadPicture("too_many_pixels")
    return header


def _read(content: bytes) -> Header:
    if content.startswith(_PNG):
        return _png(content)
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp(content)
    if content.startswith(_OTHERS) or content[4:8] == b"ftyp":
        raise BadPicture("unsupported")
    if any(start.startswith(content[:12]) for start in (_PNG, b"\xff\xd8\xff")):
        raise BadPicture("truncated")
    raise BadPicture("not_a_picture")


def _png(content: bytes) -> Header:
    """Walk every chunk to IEND, checking the sums of the critical ones."""
    view = memoryview(content)
    width, height = struct.unpack_from(">II", view, 16)
    if content[12:16] != b"IHDR":
        raise BadPicture("damaged")
    if width * height > MAX_PIXELS:
        raise BadPicture("too_many_pixels")
    at = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", view, at)
        (crc,) = struct.unpack_from(">I", view, at + 8 + length)
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(view[at + 4 : at + 8 + length]) != crc:
            raise BadPicture("damaged")
        if kind == b"acTL":
            raise BadPicture("animated")
        if kind == b"IEND":
            return Header(format="png", width_px=width, height_px=height)
        at += 12 + length
    raise BadPicture("damaged")


def _jpeg(content: bytes) -> Header:
    """Walk the segments to the first scan; an end marker must follow it."""
    at, size = 2, (0, 0)
    while True:
        if content[at] != 0xFF:
            raise BadPicture("damaged")
        while content[at] == 0xFF:  # any number of fill bytes may stand before a marker
            at += 1
        marker = content[at]
        (length,) = struct.unpack_from(">H", content, at + 1)
        if length < 2:
            raise BadPicture("damaged")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # SOF: not DHT, JPG, DAC
            height, width = struct.unpack_from(">HH", content, at + 4)
            size = (width, height)
        at += 1 + length
        if marker == 0xDA:  # SOS: entropy-coded data follows
            break
    if content.rfind(b"\xff\xd9") < at:
        raise BadPicture("truncated")
    return Header(format="jpeg", width_px=size[0], height_px=size[1])


def _webp(content: bytes) -> Header:
    """Read the first chunk: VP8 (lossy), VP8L (lossless) or VP8X (extended)."""
    (riff_bytes,) = struct.unpack_from("<I", content, 4)
    kind = content[12:16]
    if kind == b"VP8X":
        if content[20] & 0x02 or b"ANMF" in content[:4096]:
            raise BadPicture("animated")
        width = 1 + int.from_bytes(content[24:27], "little")
        height = 1 + int.from_bytes(content[27:30], "little")
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
    else:
        raise BadPicture("truncated" if len(content) < 16 else "damaged")
    if len(content) < 8 + riff_bytes:
        raise BadPicture("truncated")
    return Header(format="webp", width_px=width, height_px=height)
