"""Turn an untrusted file into plain pixels.  Runs in the confined child only.

Whatever the file holds comes out as 8-bit RGB (or one channel for a mask), upright, in sRGB, without
metadata.  Transparency is laid on white: what stands under it would otherwise reach the model unseen.

A parser's surprise that is not listed in DECODER_ERRORS ends the child; the client then says "could not be
decoded safely" and starts another one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Final, Literal

from PIL import Image, ImageChops, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from fluxctx.domain import RawImage
from fluxctx.media.faults import BadPicture
from fluxctx.media.headers import read_header

DECODERS: Final = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin)  # Pillow registers no other format
Image.MAX_IMAGE_PIXELS = None  # headers.py has a stricter limit and a better sentence

DECODER_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    OverflowError,
    struct.error,
    zlib.error,
)


def decode(content: bytes, role: Literal["image", "mask"]) -> RawImage:
    """Decode one upload.

    Args:
        content: A whole PNG, JPEG or WebP file.
        role: "image" gives 3 channels; "mask" gives 1, where 255 means "change this".

    Raises:
        BadPicture: with the reason.
    """
    picture = open_picture(content)
    with decoder_errors():
        return raw_image(mask_of(picture) if role == "mask" else flat_rgb(picture))


@contextmanager
def decoder_errors() -> Iterator[None]:
    """Turn what a decoder raises into a reason."""
    try:
        yield
    except MemoryError as full:
        raise BadPicture("out_of_memory") from full
    except DECODER_ERRORS as failure:
        raise BadPicture("damaged") from failure


def open_picture(content: bytes) -> Image.Image:
    """Open and fully decode a file, upright; its mode is still the file's own.  Raises BadPicture."""
    header = read_header(content)
    with decoder_errors():
        picture = Image.open(BytesIO(content), formats=[header.format.upper()])
        if picture.size != (header.width_px, header.height_px):
            raise BadPicture("damaged")
        picture.load()
        return upright(picture)


def raw_image(picture: Image.Image) -> RawImage:
    """Copy the pixels out of a picture of mode L, RGB or RGBA."""
    channels: Literal[1, 3, 4] = 1 if picture.mode == "L" else 3 if picture.mode == "RGB" else 4
    return RawImage(
        width_px=picture.width, height_px=picture.height, channels=channels, pixels=picture.tobytes()
    )


def upright(picture: Image.Image) -> Image.Image:
    """Apply the EXIF rotation; EXIF that cannot be read turns nothing."""
    try:
        turned = ImageOps.exif_transpose(picture)
    except DECODER_ERRORS:
        return picture
    turned.info.setdefault("icc_profile", picture.info.get("icc_profile"))
    return turned


def flat_rgb(picture: Image.Image) -> Image.Image:
    """Bring any mode to 8-bit sRGB, transparency laid on white."""
    profile = picture.info.get("icc_profile")
    picture = eight_bit(picture)
    if has_alpha(picture):
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, layered).convert("RGB")
    elif picture.mode not in ("RGB", "L", "CMYK"):
        picture = picture.convert("RGB")
    return to_srgb(picture, profile)


def mask_of(picture: Image.Image) -> Image.Image:
    """Read a mask: transparent means "change" (OpenAI's rule); with no transparency, white does."""
    picture = eight_bit(picture)
    if has_alpha(picture):
        alpha = picture.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            return ImageChops.invert(alpha)
    return picture.convert("L")


def has_alpha(picture: Image.Image) -> bool:
    """Tell whether any pixel may be transparent, as a channel or by a palette entry."""
    return picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info


def eight_bit(picture: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits by division (Pillow's own conversion would clip it to white)."""
    if picture.mode not in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        return picture
    return picture.convert("I").point(lambda level: level * (1 / 257) + 0.5).convert("L")


def to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert through the embedded ICC profile; a profile that does not fit the pixels is ignored."""
    if not profile:
        return picture.convert("RGB")
    from PIL import ImageCms

    try:
        source = ImageCms.getOpenProfile(BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        named_srgb = "srgb" in (source.profile.profile_description or "").lower()
        if named_srgb or space != {"L": "GRAY"}.get(picture.mode, picture.mode):
            return picture.convert("RGB")
        turned = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (*DECODER_ERRORS, ImageCms.PyCMSError):
        return picture.convert("RGB")
    return turned if turned is not None else picture.convert("RGB")
