"""Known pairs have known distances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fluxctx.errors import MediaInvalid
from fluxctx.media.client import MediaRoom
from fluxctx.media.compare import compare, luma, mean_ssim, perceptual_hash, ssim
from tests.media.pictures import photo, saved, scene


def test_equal_pixels_are_identical_whatever_the_file() -> None:
    facts = compare(saved(scene()), saved(scene(), "WEBP", lossless=True, exact=True))
    assert facts["identical"] is True
    assert (facts["psnr_db"], facts["ssim"], facts["phash_distance"]) == (None, 1.0, 0)


def test_one_level_everywhere_is_48_13_db() -> None:
    grey = Image.new("RGB", (50, 40), (100, 100, 100))
    lighter = Image.new("RGB", (50, 40), (101, 101, 101))
    facts = compare(saved(grey), saved(lighter))
    assert facts["psnr_db"] == pytest.approx(20 * math.log10(255), abs=1e-9)  # mean squared error 1
    c1 = (0.01 * 255) ** 2
    assert facts["ssim"] == pytest.approx((2 * 100 * 101 + c1) / (100**2 + 101**2 + c1), abs=1e-9)


def test_black_and_white_are_as_far_apart_as_can_be() -> None:
    facts = compare(saved(Image.new("RGB", (20, 20), "black")), saved(Image.new("RGB", (20, 20), "white")))
    assert facts["psnr_db"] == pytest.approx(0.0)
    assert facts["ssim"] == pytest.approx(0.0, abs=1e-3)


def test_one_channel_of_one_pixel_shows() -> None:
    one, two = scene(), scene()
    r, g, b = one.getpixel((5, 5))  # type: ignore[misc]
    two.putpixel((5, 5), (r, g, b ^ 1))
    facts = compare(saved(one), saved(two))
    assert facts["identical"] is False
    assert facts["psnr_db"] == pytest.approx(10 * math.log10(255**2 * 96 * 64 * 3), abs=1e-9)


def test_ssim_equals_the_paper_s_definition_window_by_window() -> None:
    rng = np.random.default_rng(3)
    one, two = rng.uniform(0, 255, (16, 14)), rng.uniform(0, 255, (16, 14))
    steps = np.arange(-5, 6)
    window = np.exp(-(steps[:, None] ** 2 + steps[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for y in range(16 - 10):
        for x in range(14 - 10):
            a, b = one[y : y + 11, x : x + 11], two[y : y + 11, x : x + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            both = (window * (a - ma) * (b - mb)).sum()
            found.append((2 * ma * mb + c1) * (2 * both + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    assert ssim(one, two) == pytest.approx(np.mean(found), abs=1e-9)


def test_strips_give_the_same_mean_as_the_whole_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = photo(60, 333, 1), photo(60, 333, 2)
    whole = ssim(luma(one), luma(two))
    for rows in (1, 7, 100, 323, 324, 1000):
        monkeypatch.setattr("fluxctx.media.compare._BLOCK_ROWS", rows)
        assert mean_ssim(one, two) == pytest.approx(whole, abs=1e-12), rows


def test_more_blur_is_less_similar() -> None:
    blurred = [saved(scene(200, 200).filter(ImageFilter.GaussianBlur(radius))) for radius in (0.5, 1, 2, 4)]
    scores = [compare(saved(scene(200, 200)), other) for other in blurred]
    assert [s["ssim"] for s in scores] == sorted((s["ssim"] for s in scores), reverse=True)
    assert [s["psnr_db"] for s in scores] == sorted((s["psnr_db"] for s in scores), reverse=True)


def test_the_hash_survives_a_jpeg_and_tells_pictures_apart() -> None:
    photos = [photo(256, 256, seed) for seed in range(12)]
    for one in photos:
        facts = compare(saved(one), saved(one, "JPEG", quality=50))
        assert facts["phash_distance"] <= 10
    hashes = [perceptual_hash(one) for one in photos]
    distances = [(a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]]
    assert np.median(distances) > 20


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (10, 10), (11, 11)])
def test_tiny_pictures_compare_too(size: tuple[int, int]) -> None:
    facts = compare(saved(scene(*size, seed=1)), saved(scene(*size, seed=2)))
    assert -1 <= facts["ssim"] <= 1


def test_sizes_that_differ_are_refused(room: MediaRoom) -> None:
    with pytest.raises(MediaInvalid, match="differ in size"):
        room.compare(saved(scene(10, 10)), saved(scene(11, 10)))


def test_the_child_gives_the_same_numbers(room: MediaRoom) -> None:
    one, two = saved(scene()), saved(scene(), "JPEG")
    assert room.compare(one, two) == compare(one, two)
