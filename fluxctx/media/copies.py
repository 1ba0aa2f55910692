"""Make the copy that leaves the vault: watermark, encode, XMP, credential, in this order.  In the child."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from fluxctx.media.decode import flat_rgb
from fluxctx.media.encode import CopyFormat, encode_as


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """What attaching a credential needs."""

    manifest: Mapping[str, Any]
    chain: str
    sign: Callable[[bytes], bytes]


def mark_copy(
    picture: Image.Image, fmt: CopyFormat, *, quality: int, xmp: str, signing: Signing | None
) -> bytes:
    """Encode a picture with all its marks; raises BadPicture where the packet does not fit the format."""
    from fluxctx.media import watermark

    picture = flat_rgb(picture)
    if watermark.can_hold_mark(picture):
        picture = watermark.embed(picture)
    copy = encode_as(picture, fmt, quality=quality, xmp=xmp)
    if signing is None:
        return copy
    from fluxctx.media import credentials

    return credentials.attach(copy, f"image/{fmt}", signing.manifest, signing.chain, signing.sign)
