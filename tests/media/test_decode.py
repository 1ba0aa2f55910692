"""Every kind of picture comes out as upright 8-bit RGB in sRGB, and masks as one channel."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from fluxctx.domain import RawImage
from fluxctx.media.decode import decode
from tests.media.pictures import saved, scene


def pixels(image: RawImage) -> Any:
    shape = (image.height_px, image.width_px, image.channels)
    return np.frombuffer(image.pixels, np.uint8).reshape(shape).astype(int)


def test_a_png_comes_out_bit_for_bit() -> None:
    picture = scene()
    image = decode(saved(picture), "image")
    assert (image.width_px, image.height_px, image.channels) == (96, 64, 3)
    assert image.pixels == picture.tobytes()


def test_a_lossless_webp_comes_out_bit_for_bit() -> None:
    picture = scene()
    assert decode(saved(picture, "WEBP", lossless=True, exact=True), "image").pixels == picture.tobytes()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}])
def test_a_jpeg_comes_out_close(options: dict[str, Any]) -> None:
    image = decode(saved(scene(), "JPEG", quality=95, **options), "image")
    assert np.abs(pixels(image) - np.asarray(scene(), dtype=int)).mean() < 4


def test_grey_and_bilevel_become_three_equal_channels() -> None:
    grey = scene().convert("L")
    assert decode(saved(grey), "image").pixels == grey.convert("RGB").tobytes()
    bilevel = scene().convert("1")
    assert decode(saved(bilevel), "image").pixels == bilevel.convert("RGB").tobytes()


def test_a_palette_becomes_its_colours() -> None:
    palette = scene().quantize(32)
    assert decode(saved(palette), "image").pixels == palette.convert("RGB").tobytes()


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    levels = np.linspace(0, 65535, 64 * 4).reshape(4, 64).astype(np.uint16)
    grey = decode(saved(Image.fromarray(levels)), "image")
    assert np.abs(pixels(grey)[:, :, 0] - levels / 257).max() <= 0.51
    assert pixels(grey)[0, 0].tolist() == [0, 0, 0]
    assert pixels(grey)[-1, -1].tolist() == [255, 255, 255]


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = pixels(decode(saved(cmyk, "JPEG", quality=100), "image")).mean(axis=(0, 1))
    assert red[0] > 240
    assert red[1:].max() < 15


def test_what_lies_under_transparency_never_reaches_the_model() -> None:
    hidden = Image.new("RGBA", (8, 8), (200, 10, 10, 0))
    assert set(decode(saved(hidden), "image").pixels) == {255}
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert pixels(decode(saved(half), "image")).mean() == pytest.approx(127, abs=1)


def test_a_transparent_palette_entry_is_laid_on_white() -> None:
    picture = Image.new("P", (8, 8), 3)
    picture.putpalette([9] * 768)
    assert set(decode(saved(picture, transparency=3), "image").pixels) == {255}


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(name: str, orientation: int) -> None:
    picture = Image.new("RGB", (40, 20), "white")
    picture.paste((255, 0, 0), (0, 0, 8, 8))  # a red corner, top left as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
    image = decode(saved(picture, name, exif=exif, **options), "image")
    upright = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left",
               5: "top left", 6: "top right", 7: "bottom right", 8: "bottom left"}[orientation]  # fmt: skip
    assert (image.width_px, image.height_px) == ((20, 40) if orientation >= 5 else (40, 20))
    y = 3 if "top" in upright else image.height_px - 4
    x = 3 if "left" in upright else image.width_px - 4
    assert pixels(image)[y, x, 1] < 60, upright


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, seen by nobody in the child
def test_hostile_exif_turns_nothing_and_breaks_nothing() -> None:
    broken = b"Exif\0\0MM\0*" + b"\xff" * 40
    picture = scene()
    image = decode(saved(picture, "PNG", exif=broken), "image")
    assert image.pixels == picture.tobytes()


def test_a_wide_gamut_profile_is_converted_to_srgb() -> None:
    srgb = ImageCms.createProfile("sRGB")
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    picture = scene()
    same = saved(picture, icc_profile=ImageCms.ImageCmsProfile(srgb).tobytes())
    other_space = saved(picture, icc_profile=swapped.tobytes())  # a LAB profile cannot belong to RGB pixels
    assert decode(same, "image").pixels == picture.tobytes()
    assert decode(other_space, "image").pixels == picture.tobytes()


def test_a_profile_of_noise_is_ignored() -> None:
    picture = scene()
    assert decode(saved(picture, icc_profile=b"\x07" * 300), "image").pixels == picture.tobytes()


def test_a_mask_with_transparency_is_changed_where_it_is_transparent() -> None:
    mask = Image.new("RGBA", (10, 10), (255, 255, 255, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 5, 10))
    image = decode(saved(mask), "mask")
    assert image.channels == 1
    assert pixels(image)[:, :5].min() == 255
    assert pixels(image)[:, 5:].max() == 0


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1"])
def test_a_mask_without_transparency_is_changed_where_it_is_white(mode: str) -> None:
    mask = Image.new("L", (10, 10), 0)
    mask.paste(255, (0, 0, 5, 10))
    image = decode(saved(mask.convert(mode)), "mask")
    assert pixels(image)[:, :5].min() == 255
    assert pixels(image)[:, 5:].max() == 0


def test_a_multi_picture_jpeg_of_a_phone_gives_its_main_picture() -> None:
    out = io.BytesIO()
    scene().save(out, "MPO", save_all=True, append_images=[scene(seed=5)], quality=95)
    image = decode(out.getvalue(), "image")
    assert np.abs(pixels(image) - np.asarray(scene(), dtype=int)).mean() < 4


def test_rows_that_a_png_claims_and_lacks_are_black() -> None:
    png = bytearray(saved(Image.new("RGB", (96, 64), "red")))
    png[20:24] = struct.pack(">I", 320)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    image = decode(bytes(png), "image")
    assert image.height_px == 320
    assert pixels(image)[64:].max() == 0


def test_rows_that_a_jpeg_claims_and_lacks_are_grey_as_every_jpeg_reader_shows_them() -> None:
    jpeg = bytearray(saved(Image.new("RGB", (96, 64), "red"), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at] = 0x01  # 320 rows are claimed, 64 are there
    image = decode(bytes(jpeg), "image")
    assert image.height_px == 320
    assert np.unique(pixels(image)[200:]).size <= 3
