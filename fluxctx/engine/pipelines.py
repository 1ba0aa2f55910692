"""The only file that imports torch and diffusers; it runs in the confined worker and nowhere else.

One generic room for every family: the pipeline class is named by the catalog, the components are loaded once
and shared by the sibling classes, and only arguments that the class's `__call__` has are passed.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DIGEST_COLUMNS = 4096


class BrokenPixels(Exception):
    """The model's output is not numbers, or not a picture."""


class Unsupported(Exception):
    """The pipeline class lacks what the job needs; the plan should have said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the parent sent: the fields of a RenderJob with pictures as PIL images, ready to be drawn from."""

    pipeline: str
    prompt: str = field(repr=False)
    negative_prompt: str = field(repr=False)
    width_px: int
    height_px: int
    steps: int
    guidance: float
    guidance_parameter: str
    strength: float | None
    seeds: Sequence[int]
    images: Sequence[Image.Image]
    mask: Image.Image | None
    max_prompt_tokens: int | None
    tiling: bool = False


OnStep = Callable[[int, int, Any], None]  # (steps done, steps in all, latents)


class LoadedModel:
    """A model's components in memory, frozen, and the pipelines built from them."""

    def __init__(self, directory: str, *, pipeline: str, dtype: str, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        first = pipeline_class(pipeline).from_pretrained(
            directory, dtype=DTYPES[dtype], local_files_only=True, use_safetensors=True
        )
        self._built = {pipeline: freeze(first.to(device))}
        self._components = first.components
        self._device, self._dtype, self._threads = device, dtype, threads
        self.digest = self.weights_digest()

    def render(
        self, job: Job, on_step: Callable[[int], OnStep], on_phase: Callable[[str], None]
    ) -> Iterator[bytes]:
        """Yield one picture a seed: uint8 RGB, row-major, `height_px * width_px * 3` bytes.

        A picture does not depend on which others are drawn with it: each seed is its own call.

        Raises BrokenPixels, Unsupported, and whatever the model's code raises.
        """
        pipe = self.pipeline(job.pipeline)
        set_tiling(pipe, job.tiling)
        for index, seed in enumerate(job.seeds):
            on_phase("encode")
            arguments = call_arguments(type(pipe), job, seed)
            if "callback_on_step_end" in parameters(type(pipe)):
                arguments["callback_on_step_end"] = step_callback(on_step(index), on_phase, job.steps)
            with torch.inference_mode():
                result = pipe(**arguments)
            yield to_pixels(result.images, job)

    def pipeline(self, name: str) -> Any:
        """The named class over the same components; built once."""
        if name not in self._built:
            cls = pipeline_class(name)
            wanted = parameters(cls, "__init__")
            parts = {part: value for part, value in self._components.items() if part in wanted}
            self._built[name] = freeze(cls(**parts))
        return self._built[name]

    def weights_digest(self) -> str:
        """SHA-256 over every parameter and buffer in memory, by name, shape, dtype and column sums.

        The bytes of a tensor, taken as 64-bit words in rows of 4096, are summed by column (wrapping): one
        pass at memory speed instead of SHA-256 speed.  Any optimiser step changes it; against somebody who
        looks for a collision there are the full digests of the files.
        """
        digest = hashlib.sha256()
        for part in sorted(self.modules()):
            for name, tensor in sorted(self.modules()[part].state_dict().items()):
                digest.update(f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
                digest.update(column_sums(tensor))
        return digest.hexdigest()

    def modules(self) -> dict[str, torch.nn.Module]:
        """Components that hold weights."""
        return {name: part for name, part in self._components.items() if isinstance(part, torch.nn.Module)}

    def trainable_parameters(self) -> int:
        """How many numbers a gradient could change: 0."""
        return sum(
            p.numel() for module in self.modules().values() for p in module.parameters() if p.requires_grad
        )

    def facts(self) -> dict[str, Any]:
        """The runtime that decides the bytes of a picture."""
        return {
            "device": self._device,
            "dtype": self._dtype,
            "threads": self._threads,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        }


def pipeline_class(name: str) -> Any:
    """The one class, without the mappings that AutoPipeline would import."""
    return getattr(importlib.import_module("diffusers"), name)


def parameters(cls: type, method: str = "__call__") -> Mapping[str, inspect.Parameter]:
    """Named parameters of a class's method."""
    return inspect.signature(getattr(cls, method)).parameters


def freeze(pipe: Any) -> Any:
    """No gradient, no dropout, no progress bar."""
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call_arguments(cls: type, job: Job, seed: int) -> dict[str, Any]:
    """What to call the class with: of all that a job says, what this signature has.

    The noise is drawn by a CPU generator, so a seed means the same on every device.
    """
    known = parameters(cls)
    arguments: dict[str, Any] = {
        "prompt": job.prompt,
        "num_inference_steps": job.steps,
        "generator": torch.Generator("cpu").manual_seed(seed),
        "output_type": "np",
        "height": job.height_px,
        "width": job.width_px,
        job.guidance_parameter: job.guidance,
        # references are at the render size already; Kontext would scale them to a megapixel
        "max_area": job.width_px * job.height_px,
        "_auto_resize": False,
    }
    if job.negative_prompt or job.guidance_parameter == "true_cfg_scale":
        arguments["negative_prompt"] = job.negative_prompt
    if job.max_prompt_tokens is not None:
        arguments["max_sequence_length"] = job.max_prompt_tokens
    if job.images:
        require(known, "image")
        arguments["image"] = job.images[0] if len(job.images) == 1 else list(job.images)
    if job.mask is not None:
        require(known, "mask_image")
        arguments["mask_image"] = job.mask
    if job.strength is not None:
        require(known, "strength")
        arguments["strength"] = job.strength
    return {name: value for name, value in arguments.items() if name in known}


def set_tiling(pipe: Any, wanted: bool) -> None:
    """Decode in tiles: slower, for pictures whose decoding would not fit at once."""
    vae = getattr(pipe, "vae", None)
    if vae is not None and hasattr(vae, "enable_tiling"):
        (vae.enable_tiling if wanted else vae.disable_tiling)()


def require(known: Mapping[str, object], name: str) -> None:
    """Dropping an input silently would draw something else than was asked for."""
    if name not in known:
        raise Unsupported(name)


def step_callback(
    on_step: OnStep, on_phase: Callable[[str], None], steps: int
) -> Callable[..., dict[str, Any]]:
    """Count what the pipeline says it has done; image-to-image runs fewer steps than were asked for."""
    done = 0

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        nonlocal done
        if done == 0:
            on_phase("denoise")
        done += 1
        total = int(getattr(pipe, "num_timesteps", steps))
        on_step(done, total, tensors.get("latents"))
        if done == total:
            on_phase("decode")
        return tensors

    return callback


def to_pixels(images: Any, job: Job) -> bytes:
    """Round to 8 bits exactly as diffusers' own `numpy_to_pil` does; raises BrokenPixels."""
    batch = np.asarray(images)
    if batch.shape != (1, job.height_px, job.width_px, 3):
        raise BrokenPixels("shape")
    if not np.isfinite(batch).all():
        raise BrokenPixels("not finite")
    pixels: bytes = (batch[0] * 255).round().astype("uint8").tobytes()
    return pixels


def column_sums(tensor: torch.Tensor) -> bytes:
    """64-bit column sums of a tensor's bytes, and the tail that fills no row."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    row_bytes = DIGEST_COLUMNS * 8
    whole = flat.numel() // row_bytes * row_bytes
    tail: bytes = flat[whole:].cpu().numpy().tobytes()
    if not whole:
        return tail
    sums = flat[:whole].view(torch.int64).view(-1, DIGEST_COLUMNS).sum(0)
    return sums.cpu().numpy().tobytes() + tail  # type: ignore[no-any-return,unused-ignore]


def picture(pixels: bytes, width_px: int, height_px: int, channels: int) -> Image.Image:
    """Raw pixels as a PIL image; nothing is decoded."""
    return Image.frombytes({1: "L", 3: "RGB", 4: "RGBA"}[channels], (width_px, height_px), pixels)


def reference(image: Image.Image, width_px: int, height_px: int) -> Image.Image:
    """Bring a picture to the render size, whole: on white where transparent, padded with white."""
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("RGB")
    if image.size == (width_px, height_px):
        return image
    scale = min(width_px / image.width, height_px / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = Image.new("RGB", (width_px, height_px), "white")
    canvas.paste(image.resize(size, Image.Resampling.LANCZOS), corner(size, width_px, height_px))
    return canvas


def mask_of(mask: Image.Image, width_px: int, height_px: int) -> Image.Image:
    """A mask at the render size, white where something new is drawn: transparent or white in the upload."""
    grey = (
        mask.getchannel("A").point([255 - value for value in range(256)])
        if mask.mode == "RGBA"
        else mask.convert("L")
    )
    if grey.size == (width_px, height_px):
        return grey
    scale = min(width_px / grey.width, height_px / grey.height)
    size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
    canvas = Image.new("L", (width_px, height_px), 0)
    canvas.paste(grey.resize(size, Image.Resampling.BILINEAR), corner(size, width_px, height_px))
    return canvas


def corner(size: tuple[int, int], width_px: int, height_px: int) -> tuple[int, int]:
    """Where a picture of `size` starts so that it is centred."""
    return ((width_px - size[0]) // 2, (height_px - size[1]) // 2)
