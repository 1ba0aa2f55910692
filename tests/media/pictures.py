"""Pictures that the tests are about, made here so that every value is known."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from typing import Any, Literal

import numpy as np
from PIL import Image

from fluxctx.domain import RawImage, Upload


def scene(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """A smooth, coloured picture with some texture, the same for the same seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    a, b, c = rng.uniform(9, 40, 3)
    waves = np.stack([np.sin(x / a), np.cos(y / b), np.sin((x + 2 * y) / c)], axis=-1)
    noise = rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(((waves + 1) * 120 + noise).clip(0, 255).astype(np.uint8))


def raw(picture: Image.Image) -> RawImage:
    channels: Any = {"L": 1, "RGB": 3, "RGBA": 4}[picture.mode]
    return RawImage(
        width_px=picture.width, height_px=picture.height, channels=channels, pixels=picture.tobytes()
    )


def saved(picture: Image.Image, fmt: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, fmt, **options)
    return out.getvalue()


def opened(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def upload(content: bytes, role: Literal["image", "mask", "video"] = "image") -> Upload:
    return Upload(role=role, content=content, sha256=hashlib.sha256(content).hexdigest())


def photo(width: int = 512, height: int = 512, seed: int = 0) -> Image.Image:
    """Something with a photograph's statistics: detail at every scale, about 1/f."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for octave in range(1, 9):
        side = 2**octave
        layer = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        smooth = layer.resize((width, height), Image.Resampling.BICUBIC)
        total += (np.asarray(smooth, dtype=float) - 128) / 2 ** (octave - 1)
    return Image.fromarray((total * 0.6 + 128).clip(0, 255).astype(np.uint8))


def with_sums(content: bytes) -> bytes:
    """Repair a PNG's CRCs, so that the decoder and not the sum sees the mutation."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    out, at = bytearray(content), 8
    while at + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, at)
        end = at + 8 + length
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)
