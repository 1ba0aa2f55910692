"""The invisible mark in the pixels: present or not, the same 32 bits for everybody, so it names nobody.

RivaGAN's networks run at one fixed side, whatever the size of the picture: it is scaled to 256 x 256, and the
difference that carries the bits is scaled back up and added.  So a copy that is halved or enlarged reads as
before, and the cost does not grow with the picture.  How well it reads: docs/concepts/provenance.md.

Source: Zhang et al., "Robust Invisible Video Watermarking with Attention" (2019); weights and their licence
in weights/.
"""

from __future__ import annotations

import functools
import hashlib
import os
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]

MIN_SIDE_PX: Final = 256  # smaller pictures cannot hold the bits and stay unmarked
BITS: Final = 32
NEEDED_BITS: Final = 29  # by chance 29 of 32 or more agree once in 780,000 pictures
ENCODER_SHA256: Final = "66bc7814fadac7d686105c8ab26c6cf2cc8e40deb83e67bb6ef5b9de9b8ece0d"
DECODER_SHA256: Final = "6b006690cf352fa50a91a0b6d6241dbcded0a9957969e2c0665cf9a7011b3880"
_SIDE_PX: Final = 256
_THREADS: Final = min(4, os.cpu_count() or 1)
# Times RivaGAN's own strength: about 40, 37.5 and 35.5 dB.  The last shows to a keen eye on smooth ground and
# is kept for pictures that the others would not survive in.
_STRENGTHS: Final = (1.5, 2.0, 2.5)
_CODE_WORD: Final = hashlib.sha256(b"fluxctx/watermark/v1").digest()[: BITS // 8]


def can_hold_mark(picture: Image.Image) -> bool:
    """Tell whether a picture is large enough."""
    return min(picture.size) >= MIN_SIDE_PX


def embed(picture: Image.Image) -> Image.Image:
    """Add the mark to an RGB picture of at least 256 x 256 px, as weakly as survives a JPEG of quality 50."""
    change = _change(picture)
    for strength in _STRENGTHS[:-1]:
        marked = _add(picture, change, strength)
        out = BytesIO()
        marked.save(out, "JPEG", quality=50)
        if count_bits(Image.open(out)) >= NEEDED_BITS:
            return marked
    return _add(picture, change, _STRENGTHS[-1])


def detect(picture: Image.Image) -> dict[str, Any]:
    """Read an RGB picture, upright and mirrored.

    Returns:
        bits: how many of the 32 agree; present: at least 29 do.
    """
    mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    bits = max(count_bits(picture), count_bits(mirrored))
    return {"bits": bits, "of": BITS, "present": bits >= NEEDED_BITS}


def count_bits(picture: Image.Image) -> int:
    """How many of the code word's bits the decoder reads."""
    (found,) = _network("rivagan-decoder.onnx", DECODER_SHA256).run(None, {"frame": _frame(picture)})
    return int(((found[0] > 0.5) == (_code_word() > 0.5)).sum())


def _change(picture: Image.Image) -> Array:
    """The difference that carries the bits, (256, 256, 3), in levels of 0 to 255."""
    frame = _frame(picture)
    feed = {"frame": frame, "data": _code_word()[np.newaxis]}
    (marked,) = _network("rivagan-encoder.onnx", ENCODER_SHA256).run(None, feed)
    change: Array = (np.clip(marked, -1, 1) - frame)[0, :, 0].transpose(1, 2, 0) * 127.5
    return change


def _add(picture: Image.Image, change: Array, strength: float) -> Image.Image:
    """Scale the difference to the picture and add it, channel by channel to spare memory."""
    channels = []
    for index, channel in enumerate(picture.split()):
        plane = Image.fromarray(np.ascontiguousarray(change[:, :, index]))
        scaled = np.asarray(plane.resize(picture.size, Image.Resampling.BICUBIC))
        levels = np.rint(np.asarray(channel, dtype=np.float32) + strength * scaled)
        channels.append(Image.fromarray(levels.clip(0, 255).astype(np.uint8)))
    return Image.merge("RGB", channels)


def _frame(picture: Image.Image) -> Array:
    """Scale to the networks' side: (1, 3, 1, 256, 256), -1 to 1."""
    small = picture.convert("RGB").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC)
    levels = np.asarray(small, dtype=np.float32) / 127.5 - 1.0
    return np.ascontiguousarray(levels.transpose(2, 0, 1)[np.newaxis, :, np.newaxis])


def _code_word() -> Array:
    return np.unpackbits(np.frombuffer(_CODE_WORD, np.uint8)).astype(np.float32)


def load() -> None:
    """Read both networks now rather than at the first picture."""
    _network("rivagan-decoder.onnx", DECODER_SHA256)
    _network("rivagan-encoder.onnx", ENCODER_SHA256)


@functools.cache
def _network(name: str, sha256: str) -> Any:
    """Load one network on a few threads, which do not spin, from bytes that match the pinned digest."""
    import onnxruntime

    weights = (Path(__file__).with_name("weights") / name).read_bytes()
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise RuntimeError("the watermark's weights are not the pinned ones")
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = _THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
