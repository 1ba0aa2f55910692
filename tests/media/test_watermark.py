"""The invisible mark: readable after what happens to pictures, absent where it was never put."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fluxctx.domain import Size
from fluxctx.media import watermark
from fluxctx.media.client import MediaRoom
from fluxctx.media.marks import Marks
from fluxctx.provenance.verify import read_assertions
from fluxctx.provenance.xmp import packet
from tests.media.pictures import opened, photo, raw, saved

MARKS = Marks(xmp=packet(origin="generated", tool="t"))
WEIGHTS = Path(watermark.__file__).with_name("weights")


@pytest.fixture(scope="module")
def marked() -> list[Image.Image]:
    return [watermark.embed(photo(512, 512, seed)) for seed in range(2)]


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(saved(picture, "JPEG", quality=quality))).convert("RGB")


def test_it_reads_after_jpeg_50_half_size_and_a_crop(marked: list[Image.Image]) -> None:
    for picture in marked:
        assert watermark.count_bits(picture) >= watermark.NEEDED_BITS
        assert watermark.count_bits(jpeg(picture, 50)) >= watermark.NEEDED_BITS
        assert watermark.count_bits(picture.resize((256, 256))) >= watermark.NEEDED_BITS
        assert watermark.count_bits(picture.crop((20, 20, 492, 492))) >= watermark.NEEDED_BITS


def test_a_mirrored_picture_is_recognised(marked: list[Image.Image]) -> None:
    mirrored = marked[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert watermark.detect(mirrored)["present"] is True


def test_it_is_hard_to_see(marked: list[Image.Image]) -> None:
    for seed, picture in enumerate(marked):
        error = np.square(np.asarray(picture, dtype=float) - np.asarray(photo(512, 512, seed))).mean()
        assert 10 * np.log10(255**2 / error) > 34


def test_unmarked_pictures_never_read_as_marked() -> None:
    found = [watermark.detect(photo(300, 260, 50 + seed)) for seed in range(6)]
    found.append(watermark.detect(Image.new("RGB", (256, 256), "white")))
    assert max(facts["bits"] for facts in found) < watermark.NEEDED_BITS
    assert not any(facts["present"] for facts in found)


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp"])
def test_every_copy_of_256_pixels_and_more_carries_it(room: MediaRoom, fmt: str) -> None:
    original = room.encode(raw(photo(512, 400)), size=Size(width_px=512, height_px=400)).original
    copy = room.mark_copy(original, "image/png", fmt=fmt, marks=MARKS)
    said = read_assertions(copy, room)
    assert said.watermark is True
    assert said.watermark_bits is not None
    assert said.watermark_bits >= watermark.NEEDED_BITS
    assert opened(copy).size == (512, 400)


def test_a_smaller_copy_is_said_to_hold_none(room: MediaRoom) -> None:
    copy = room.mark_copy(saved(photo(255, 400)), "image/png", fmt="png", marks=MARKS)
    assert opened(copy).tobytes() == photo(255, 400).tobytes()
    assert read_assertions(copy, room).watermark is None


def test_the_stored_original_stays_unmarked(room: MediaRoom) -> None:
    picture = photo(256, 256)
    original = room.encode(raw(picture), size=Size(width_px=256, height_px=256)).original
    assert opened(original).tobytes() == picture.tobytes()


def test_the_weights_are_the_pinned_ones_and_come_with_their_licence() -> None:
    listed = {}
    for line in (WEIGHTS / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest() == digest
        listed[name] = digest
    assert listed == {
        "rivagan-encoder.onnx": watermark.ENCODER_SHA256,
        "rivagan-decoder.onnx": watermark.DECODER_SHA256,
    }
    assert "MIT License" in (WEIGHTS / "NOTICE.txt").read_text()
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 2_000_000


def test_altered_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "other.onnx").write_bytes(b"other")
    monkeypatch.setattr(watermark, "__file__", str(tmp_path / "watermark.py"))
    with pytest.raises(RuntimeError, match="not the pinned ones"):
        watermark._network("other.onnx", watermark.DECODER_SHA256)
