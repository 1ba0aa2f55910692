"""What a file says of itself, before any decoder sees it."""

from __future__ import annotations

import struct
import zlib

import pytest

from fluxctx.media.faults import FAULTS, MAX_FILE_BYTES, BadPicture
from fluxctx.media.headers import Header, read_header
from tests.media.pictures import saved, scene


def png_chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, *chunks: bytes) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks)


@pytest.mark.parametrize(("name", "options"), [
    ("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}),
    ("WEBP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"xmp": b"x", "exif": b"Exif\0\0"}),
])  # fmt: skip
def test_format_and_size_come_from_the_content(name: str, options: dict[str, object]) -> None:
    header = read_header(saved(scene(97, 61), name, **options))
    assert header == Header(format=name.lower(), width_px=97, height_px=61)  # type: ignore[arg-type]


def reason_for(content: bytes) -> str:
    with pytest.raises(BadPicture) as caught:
        read_header(content)
    assert caught.value.reason in FAULTS
    return caught.value.reason


def test_a_png_bomb_is_refused_by_its_header() -> None:
    bomb = png_of(30_000, 30_000, png_chunk(b"IDAT", zlib.compress(bytes(1000))), png_chunk(b"IEND"))
    assert reason_for(bomb) == "too_many_pixels"


def test_a_webp_bomb_is_refused_by_its_header() -> None:
    canvas = b"\0\0\0\0" + (16382).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    assert reason_for(b"RIFF" + struct.pack("<I", len(body)) + body) == "too_many_pixels"


def test_a_jpeg_bomb_is_refused_by_its_header() -> None:
    jpeg = bytearray(saved(scene(), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65500, 65500)
    assert reason_for(bytes(jpeg)) == "too_many_pixels"


@pytest.mark.parametrize("sides", [(0, 5), (5, 0)])
def test_a_picture_without_a_side_is_damaged(sides: tuple[int, int]) -> None:
    assert reason_for(png_of(*sides, png_chunk(b"IEND"))) == "damaged"


def test_an_animated_png_is_named_as_such() -> None:
    assert reason_for(png_of(4, 4, png_chunk(b"acTL", bytes(8)), png_chunk(b"IEND"))) == "animated"
    frames = [scene(seed=1), scene(seed=2)]
    assert reason_for(saved(frames[0], "PNG", save_all=True, append_images=frames[1:])) == "animated"


def test_an_animated_webp_is_named_as_such() -> None:
    frames = [scene(seed=1), scene(seed=2)]
    assert reason_for(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])) == "animated"


@pytest.mark.parametrize("name", ["GIF", "BMP", "TIFF", "AVIF"])
def test_other_picture_formats_are_refused_with_a_way_out(name: str) -> None:
    assert reason_for(saved(scene(), name)) == "unsupported"
    assert "PNG, JPEG or WebP" in FAULTS["unsupported"][1]


@pytest.mark.parametrize("content", [b"not a picture at all", b"MZ" + bytes(500), b"\0" * 4096])
def test_anything_else_is_not_a_picture(content: bytes) -> None:
    assert reason_for(content) == "not_a_picture"


def test_nothing_and_too_much_are_refused() -> None:
    assert reason_for(b"") == "empty"
    assert reason_for(b"\x89PNG" + bytes(MAX_FILE_BYTES)) == "too_large"


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
def test_a_file_cut_anywhere_is_no_whole_picture(name: str) -> None:
    whole = saved(scene(), name)
    for cut in (*range(1, len(whole), 64), len(whole) - 1):
        assert reason_for(whole[:cut]) in ("truncated", "not_a_picture"), cut


def test_a_flipped_bit_in_a_critical_chunk_is_damage() -> None:
    png = bytearray(saved(scene()))
    png[png.index(b"IDAT") + 40] ^= 1
    assert reason_for(bytes(png)) == "damaged"


def test_a_png_of_endless_tiny_chunks_is_refused_quickly() -> None:
    assert reason_for(png_of(4, 4, png_chunk(b"tEXt") * 200_000)) == "damaged"


def test_what_follows_the_end_of_a_picture_does_not_matter() -> None:
    assert read_header(saved(scene(), "JPEG") + bytes(100)).format == "jpeg"
    assert read_header(saved(scene(), "PNG") + b"trailing").format == "png"
