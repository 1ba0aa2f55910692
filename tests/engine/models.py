"""Model directories for tests: the embedded starter, copies of it, and small ones written by hand."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import fluxctx.engine
from fluxctx.domain import GenerationRequest, JobId, RawImage, Workflow
from fluxctx.engine.catalog import Catalog
from fluxctx.engine.signatures import Signatures

STARTER = Path(fluxctx.engine.__file__).parent / "starter"
JOB = JobId("job_0123456789abcdef")


def catalog(models_dir: Path, starter_dir: Path = STARTER) -> Catalog:
    return Catalog(models_dir, starter_dir=starter_dir, signatures=Signatures())


def starter_copy(target: Path) -> Path:
    """A model directory of the user's own, equal to the starter's."""
    shutil.copytree(STARTER / "model", target)
    return target


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    header: dict[str, Any] = {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    return with_header(json.dumps(header).encode(), data)


def with_header(header: bytes, data: bytes = b"", *, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if claimed is None else claimed) + header + data


def small_model(root: Path) -> Path:
    """The least that is a FLUX directory to everything but torch: right names, 2-number weights."""
    parts = {
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "TokenizersBackend"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    index = {
        "_class_name": "FluxPipeline",
        "_diffusers_version": "0.42.1",
        "image_encoder": [None, None],
        **parts,
    }
    write(root / "model_index.json", index)
    configs: dict[str, dict[str, Any]] = {
        "transformer": {"guidance_embeds": True, "in_channels": 64},
        "vae": {"block_out_channels": [8, 8, 8, 8]},
        "text_encoder": {"hidden_size": 8},
        "text_encoder_2": {"d_model": 8},
    }
    for part, config in configs.items():
        write(root / part / "config.json", config)
        weights = safetensors({"w": ("F32", [2], bytes(8))})
        (root / part / "model.safetensors").write_bytes(weights)
    write(root / "scheduler" / "scheduler_config.json", {"num_train_timesteps": 1000})
    write(root / "tokenizer" / "tokenizer.json", {})
    return root


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def edit_json(path: Path, **changes: Any) -> None:
    write(path, {**json.loads(path.read_text()), **changes})


def request(**changes: Any) -> GenerationRequest:
    return GenerationRequest(**{"workflow": Workflow.TEXT_TO_IMAGE, "prompt": "a red apple", **changes})


def picture(width_px: int = 64, height_px: int = 64, channels: int = 3, value: int = 200) -> RawImage:
    pixels = bytes([value]) * (width_px * height_px * channels)
    return RawImage(width_px=width_px, height_px=height_px, channels=channels, pixels=pixels)
