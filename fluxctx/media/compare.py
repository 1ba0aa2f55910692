"""How far two pictures are apart: PSNR, structural similarity, perceptual hash.  Runs in the child.

Source: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment" (IEEE TIP 13(4), 2004) for SSIM with
its own window and constants; Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions"
(2010) for the DCT hash.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fluxctx.media.decode import flat_rgb, open_picture
from fluxctx.media.faults import BadPicture

Plane = NDArray[np.float64]
_K1, _K2, _RANGE = 0.01, 0.03, 255.0
_SIGMA, _RADIUS = 1.5, 5  # the paper's 11 x 11 Gaussian window
_HASH_SIDE, _HASH_CUT = 32, 8
_BLOCK_ROWS: Final = 512


def compare(first: bytes, second: bytes) -> dict[str, Any]:
    """Compare two files of the same size.

    Returns:
        identical: every pixel equal; psnr_db: None if identical, else over all three channels;
        ssim: mean over the luma plane, 1.0 at best; phash_distance: differing bits of 64.

    Raises:
        BadPicture: either is no picture, or "sizes_differ".
    """
    one, two = (flat_rgb(open_picture(content)) for content in (first, second))
    if one.size != two.size:
        raise BadPicture("sizes_differ")
    error = mean_squared_error(one, two)
    return {
        "identical": error == 0.0,
        "psnr_db": None if error == 0.0 else 10.0 * math.log10(_RANGE**2 / error),
        "ssim": 1.0 if error == 0.0 else mean_ssim(one, two),
        "phash_distance": (perceptual_hash(one) ^ perceptual_hash(two)).bit_count(),
        "width_px": one.width,
        "height_px": one.height,
    }


def mean_squared_error(one: Image.Image, two: Image.Image) -> float:
    """Mean of the squared difference over all channels, exact (integers until the division)."""
    first, second = np.asarray(one), np.asarray(two)
    total = 0
    for row in range(0, first.shape[0], _BLOCK_ROWS):  # blocks keep the memory small at 64 MP
        rows = slice(row, row + _BLOCK_ROWS)
        difference = first[rows].astype(np.int32) - second[rows]
        total += int(np.square(difference).sum(dtype=np.int64))
    return total / first.size


def mean_ssim(one: Image.Image, two: Image.Image) -> float:
    """SSIM of the luma planes, in strips that overlap by a window, so that memory stays small at 64 MP."""
    total, windows = 0.0, 0
    for top in range(0, max(1, one.height - 2 * _RADIUS), _BLOCK_ROWS):
        strip = (0, top, one.width, min(one.height, top + _BLOCK_ROWS + 2 * _RADIUS))
        rows = max(1, strip[3] - top - 2 * _RADIUS)
        total += rows * ssim(luma(one.crop(strip)), luma(two.crop(strip)))
        windows += rows
    return total / windows


def luma(picture: Image.Image) -> Plane:
    """ITU-R BT.601 luma, 0 to 255, unrounded."""
    rgb = np.asarray(picture, dtype=np.float64)
    weighted: Plane = rgb @ np.array([0.299, 0.587, 0.114])
    return weighted


def ssim(one: Plane, two: Plane) -> float:
    """Mean SSIM over every full 11 x 11 window; smaller pictures use one window of their own size."""
    if min(one.shape) <= 2 * _RADIUS:
        return float(_ssim_of(one.mean(), two.mean(), one.var(), two.var(), _covariance(one, two)))
    mean_1, mean_2 = _blur(one), _blur(two)
    var_1 = _blur(one * one) - mean_1 * mean_1
    var_2 = _blur(two * two) - mean_2 * mean_2
    both = _blur(one * two) - mean_1 * mean_2
    return float(np.mean(_ssim_of(mean_1, mean_2, var_1, var_2, both)))


def _ssim_of(mean_1: Any, mean_2: Any, var_1: Any, var_2: Any, both: Any) -> Any:
    """Equation 13 of the paper."""
    c1, c2 = (_K1 * _RANGE) ** 2, (_K2 * _RANGE) ** 2
    top = (2 * mean_1 * mean_2 + c1) * (2 * both + c2)
    return top / ((mean_1**2 + mean_2**2 + c1) * (var_1 + var_2 + c2))


def _covariance(one: Plane, two: Plane) -> float:
    return float(((one - one.mean()) * (two - two.mean())).mean())


def _blur(plane: Plane) -> Plane:
    """Gaussian mean at every position where the window fits whole (separable)."""
    steps = np.arange(-_RADIUS, _RADIUS + 1)
    window = np.exp(-(steps**2) / (2 * _SIGMA**2))
    window /= window.sum()
    height, width = plane.shape[0] - 2 * _RADIUS, plane.shape[1] - 2 * _RADIUS
    down, across = np.zeros((height, plane.shape[1])), np.zeros((height, width))
    for shift, weight in enumerate(window):
        down += weight * plane[shift : shift + height]
    for shift, weight in enumerate(window):
        across += weight * down[:, shift : shift + width]
    return across


def perceptual_hash(picture: Image.Image) -> int:
    """64 bits: the low DCT coefficients of the 32 x 32 luma, each above their median or not."""
    small = picture.convert("L").resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.LANCZOS)
    plane = np.asarray(small, dtype=np.float64)
    steps = np.arange(_HASH_SIDE)
    basis = np.cos(np.pi * np.outer(steps[:_HASH_CUT], 2 * steps + 1) / (2 * _HASH_SIDE))  # DCT-II
    low = basis @ plane @ basis.T
    bits = (low > np.median(low)).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)
