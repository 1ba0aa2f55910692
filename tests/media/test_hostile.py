"""Whatever a file holds, the room answers with a picture or with MediaInvalid, and goes on working."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fluxctx.domain import RawImage
from fluxctx.errors import MediaInvalid
from fluxctx.media.client import MediaRoom
from fluxctx.media.faults import FAULTS
from tests.media.pictures import saved, scene, upload, with_sums

EXIF = Image.Exif()
EXIF[0x0112] = 6
SEEDS = [
    saved(scene(40, 30)),
    saved(scene(40, 30).quantize(16), transparency=1),
    saved(scene(40, 30).convert("RGBA"), exif=EXIF),
    saved(scene(40, 30), "JPEG", exif=EXIF, xmp=b"<x/>"),
    saved(scene(40, 30), "JPEG", progressive=True),
    saved(scene(40, 30).convert("CMYK"), "JPEG"),
    saved(scene(40, 30), "WEBP"),
    saved(scene(40, 30).convert("RGBA"), "WEBP", lossless=True, exif=EXIF, xmp=b"<x/>"),
]
fuzzing = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real file with a few bytes changed, dropped, doubled or cut, PNG sums repaired half of the time."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        move = draw(st.sampled_from(["set", "cut", "drop", "double", "word"]))
        if move == "set":
            content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif move == "cut":
            del content[at:]
        elif move == "drop":
            del content[at : at + draw(st.integers(1, 40))]
        elif move == "double":
            content[at:at] = content[at : at + draw(st.integers(1, 40))]
        else:
            content[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"]))
    return with_sums(bytes(content)) if draw(st.booleans()) else bytes(content)


def answer(room: MediaRoom, content: bytes) -> RawImage | None:
    """A picture, or None where it was refused in one of our own sentences; anything else fails the test."""
    try:
        return room.decode(upload(content))
    except MediaInvalid as bad:
        refusal = (bad.message, bad.hint)
    assert refusal in FAULTS.values()
    return None


@fuzzing
@given(content=mutated())
def test_a_mutated_picture_never_breaks_the_room(room: MediaRoom, content: bytes) -> None:
    answer(room, content)


@fuzzing
@given(content=mutated())
def test_a_mutated_picture_never_breaks_inspection(room: MediaRoom, content: bytes) -> None:
    try:
        facts = room.inspect(content)
    except MediaInvalid as bad:
        facts = {"refused": (bad.message, bad.hint)}
    assert facts.get("format") or facts["refused"] in FAULTS.values()


@fuzzing
@given(content=st.binary(max_size=300))
def test_noise_is_not_a_picture(room: MediaRoom, content: bytes) -> None:
    assert answer(room, content) is None


@pytest.mark.parametrize("content", SEEDS)
def test_a_file_cut_at_any_64th_byte_is_refused_through_the_room(room: MediaRoom, content: bytes) -> None:
    for cut in range(0, len(content) - 1, 64):
        assert answer(room, content[:cut]) is None
    assert answer(room, content) is not None


def test_the_room_still_works_after_all_that(room: MediaRoom) -> None:
    for _ in range(3):
        answer(room, os.urandom(100))
    assert answer(room, saved(scene())) is not None


def test_a_deflate_bomb_in_a_text_chunk_is_refused_or_ignored(room: MediaRoom) -> None:
    import zlib

    from tests.media.test_headers import png_chunk

    bomb = b"x\0\0" + zlib.compress(bytes(200_000_000), 9)
    png = saved(scene())
    cut = png.index(b"IDAT") - 4
    answer(room, png[:cut] + png_chunk(b"zTXt", bomb) + png[cut:])
    assert answer(room, png) is not None
