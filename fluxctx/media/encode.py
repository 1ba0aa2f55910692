"""Turn pixels into files: the stored original, its thumbnail, and the copy that leaves.  Runs in the child.

The same pixels give the same bytes on the same Pillow: no time stamp, no tool name, no random id.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Literal

from PIL import Image, PngImagePlugin

from fluxctx.domain import RawImage, Size
from fluxctx.media.faults import BadPicture

CopyFormat = Literal["png", "jpeg", "webp"]
THUMBNAIL_PX: Final = 256
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Run lengths only: a fifth of the time of zlib's default search, and no larger on photographs
# (benchmarks/media.py).
_Z_RLE = 3
_JPEG_XMP_BYTES = 65533 - 29  # one APP1 segment less the XMP name, ISO 16684-3 1.1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What goes into the vault, and the digest of the pixels that come out again."""

    original: bytes
    thumbnail: bytes
    width_px: int
    height_px: int
    pixels_sha256: str


def picture_of(image: RawImage) -> Image.Image:
    """View raw pixels as a Pillow picture without decoding anything."""
    return Image.frombuffer(_MODES[image.channels], (image.width_px, image.height_px), image.pixels)


def encode(image: RawImage, size: Size) -> Stored:
    """Encode a result as PNG at `size`, enlarged by Lanczos where it is smaller, with its thumbnail."""
    picture = picture_of(image)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if picture.size != (size.width_px, size.height_px):
        picture = picture.resize((size.width_px, size.height_px), Image.Resampling.LANCZOS)
    return Stored(
        original=encode_as(picture, "png"),
        thumbnail=thumbnail(picture),
        width_px=picture.width,
        height_px=picture.height,
        pixels_sha256=hashlib.sha256(picture.tobytes()).hexdigest(),
    )


def thumbnail(picture: Image.Image) -> bytes:
    """Encode a WebP of at most 256 px on its longer side."""
    small = shrink(picture, THUMBNAIL_PX)
    out = BytesIO()
    small.save(out, "WEBP", quality=80, method=2)
    return out.getvalue()


def shrink(picture: Image.Image, longest_px: int) -> Image.Image:
    """Scale down so that neither side is longer than `longest_px`; never up."""
    small = picture.copy() if max(picture.size) <= longest_px else picture
    if small is picture:
        scale = longest_px / max(picture.size)
        target = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        small = picture.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return small


def encode_as(picture: Image.Image, fmt: CopyFormat, *, quality: int = 92, xmp: str = "") -> bytes:
    """Encode a copy with its XMP packet.

    Args:
        picture: Mode RGB.
        fmt: The file format.
        quality: 1 to 100, for JPEG and WebP.
        xmp: A whole XMP packet, or nothing.

    Raises:
        BadPicture: "xmp_too_long" where a JPEG segment cannot hold the packet.
    """
    out = BytesIO()
    packet = xmp.encode()
    if fmt == "png":
        text = PngImagePlugin.PngInfo()
        if packet:
            text.add_itxt("XML:com.adobe.xmp", xmp)
        picture.save(out, "PNG", pnginfo=text, compress_type=_Z_RLE)
    elif fmt == "webp":
        picture.save(out, "WEBP", quality=quality, method=4, xmp=packet, exact=True)
    else:
        if len(packet) > _JPEG_XMP_BYTES:
            raise BadPicture("xmp_too_long")
        extra = {"xmp": packet} if packet else {}
        chroma = 0 if quality >= 90 else 2  # 4:4:4 or 4:2:0
        picture.save(out, "JPEG", quality=quality, subsampling=chroma, optimize=True, **extra)
    return out.getvalue()
