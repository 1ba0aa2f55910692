"""The confined child's main: one request at a time over the channel, until the parent is gone.

    request        head                 blob                  answer
    decode         role                 the file              image: size, channels; pixels
    encode         image, size          pixels                stored: digest; original and thumbnail
    mark           fmt, quality, xmp,   our own file, or      sign (bytes) where there is a credential,
                   manifest, chain,     pixels where image    answered by signature; then copy: the file
                   image                is not null
    preview        image, longest_px,   pixels                copy: a small JPEG
                   xmp
    inspect        watermark, anchors   the file              facts
    compare        first_bytes          two files             facts
    classify       image                pixels                facts: scores
    shrink         longest_px           a file                image
    shrink-image   image, longest_px    pixels                image

Anything wrong with a file is answered `refused` with one of the reasons of faults.py.  An exception that is
not foreseen ends this process; the client starts another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from fluxctx.confined.wire import Channel, Frame
from fluxctx.domain import RawImage, Size
from fluxctx.media.faults import BadPicture

Answer = tuple[str, dict[str, Any], bytes]


def main(channel: Channel) -> None:
    """Serve until the parent closes its end."""
    from fluxctx.media import decode, encode  # noqa: F401 - imported while nobody waits for a picture yet

    def sign(data: bytes) -> bytes:
        """Ask the parent, who holds the key."""
        channel.send("sign", {}, data)
        return channel.recv().blob

    while True:
        try:
            request = channel.recv()
        except EOFError:
            return
        if request.kind == "load":
            _load()
            continue
        try:
            if request.kind == "mark":
                kind, head, blob = _mark(request, sign)
            else:
                kind, head, blob = HANDLERS[request.kind](request)
        except BadPicture as bad:
            kind, head, blob = "refused", {"reason": bad.reason}, b""
        channel.send(kind, head, blob)


def _load() -> None:
    """Read weights before the first picture; there is no answer, and what fails here fails when it is used."""
    from fluxctx.media import classify, watermark

    with contextlib.suppress(Exception):
        classify.load()
        watermark.load()


def _decode(request: Frame) -> Answer:
    from fluxctx.media.decode import decode

    return _image_answer(decode(request.blob, "mask" if request.head["role"] == "mask" else "image"))


def _encode(request: Frame) -> Answer:
    from fluxctx.media.encode import encode

    width_px, height_px = request.head["size"]
    stored = encode(_image(request), Size(width_px=width_px, height_px=height_px))
    head = {"original_bytes": len(stored.original), "pixels_sha256": stored.pixels_sha256}
    head |= {"width_px": stored.width_px, "height_px": stored.height_px}
    return "stored", head, stored.original + stored.thumbnail


def _mark(request: Frame, sign: Callable[[bytes], bytes]) -> Answer:
    from fluxctx.media.copies import Signing, mark_copy
    from fluxctx.media.decode import open_picture
    from fluxctx.media.encode import picture_of

    head = request.head
    picture = open_picture(request.blob) if head["image"] is None else picture_of(_image(request))
    signing = None
    if head["manifest"] is not None:
        signing = Signing(manifest=head["manifest"], chain=head["chain"], sign=sign)
    copy = mark_copy(picture, head["fmt"], quality=head["quality"], xmp=head["xmp"], signing=signing)
    return "copy", {}, copy


def _preview(request: Frame) -> Answer:
    from fluxctx.media.decode import flat_rgb
    from fluxctx.media.encode import encode_as, picture_of, shrink

    small = shrink(flat_rgb(picture_of(_image(request))), request.head["longest_px"])
    return "copy", {}, encode_as(small, "jpeg", quality=80, xmp=request.head["xmp"])


def _inspect(request: Frame) -> Answer:
    from fluxctx.media.inspect import inspect

    head = request.head
    return "facts", inspect(request.blob, watermark=head["watermark"], anchors=head["anchors"]), b""


def _compare(request: Frame) -> Answer:
    from fluxctx.media.compare import compare

    cut = request.head["first_bytes"]
    return "facts", compare(request.blob[:cut], request.blob[cut:]), b""


def _classify(request: Frame) -> Answer:
    from fluxctx.media.classify import classify

    return "facts", classify(_image(request)), b""


def _shrink(request: Frame) -> Answer:
    from fluxctx.media.decode import flat_rgb, open_picture, raw_image
    from fluxctx.media.encode import shrink

    return _image_answer(raw_image(shrink(flat_rgb(open_picture(request.blob)), request.head["longest_px"])))


def _shrink_image(request: Frame) -> Answer:
    from fluxctx.media.decode import flat_rgb, raw_image
    from fluxctx.media.encode import picture_of, shrink

    return _image_answer(raw_image(shrink(flat_rgb(picture_of(_image(request))), request.head["longest_px"])))


def _image(request: Frame) -> RawImage:
    width_px, height_px, channels = request.head["image"]
    return RawImage(width_px=width_px, height_px=height_px, channels=channels, pixels=request.blob)


def _image_answer(image: RawImage) -> Answer:
    head = {"width_px": image.width_px, "height_px": image.height_px, "channels": image.channels}
    return "image", head, image.pixels


HANDLERS: dict[str, Callable[[Frame], Answer]] = {
    "decode": _decode,
    "encode": _encode,
    "preview": _preview,
    "inspect": _inspect,
    "compare": _compare,
    "classify": _classify,
    "shrink": _shrink,
    "shrink-image": _shrink_image,
}
