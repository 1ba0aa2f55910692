"""What fits where: pure arithmetic over a model's size and a device's memory, so it is tested without a GPU.

Weights are counted exactly, from the safetensors headers.  Activations are estimated: decoding is the peak of
every image family, and its cost goes with the pixels and with the autoencoder's widest layer at full size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fluxctx.domain import Size
from fluxctx.errors import DoesNotFit

Offload = Literal["none", "model", "sequential"]

DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
RUNTIME_BYTES = (
    600 << 20
)  # a process that has imported torch and diffusers: 506 MiB measured, with the starter
CUDA_CONTEXT_BYTES = 800 << 20
DECODE_COPIES = 6  # full-size feature maps alive at once while a decoder works
DEFAULT_DECODER_CHANNELS = 128
TILE_PX = 512  # diffusers' own tile of the autoencoder
SHARE = 0.9  # of what is free: other programs want some


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is free now.  `vram_bytes` is None without an accelerator."""

    ram_bytes: int
    vram_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a model goes and why; `because` is for `--dry-run`, one decision a line."""

    device: str
    dtype: str
    offload: Offload
    tiling: bool
    weights_bytes: int
    activation_bytes: int
    because: tuple[str, ...]


def plan_placement(
    elements: Mapping[str, int],
    size: Size,
    memory: Memory,
    *,
    device: str,
    dtype: str,
    offload: Offload | None = None,
    decoder_channels: int = DEFAULT_DECODER_CHANNELS,
) -> Placement:
    """Choose the fastest placement that fits; changes nothing.

    Args:
        elements: Numbers in each component's weights.
        size: What is drawn, in pixels.
        memory: What is free.
        device: Where to compute.
        dtype: Of the weights in memory.
        offload: None to choose; a value to insist on it.
        decoder_channels: Feature maps of the decoder's last block.

    Raises:
        DoesNotFit: with what is needed and what is free in `details`.
    """
    each = DTYPE_BYTES[dtype]
    weights = {part: count * each for part, count in elements.items()}
    whole = decode_bytes(size, each, decoder_channels)
    tiled = min(whole, decode_bytes(Size(width_px=TILE_PX, height_px=TILE_PX), each, decoder_channels))
    total, largest = sum(weights.values()), max(weights.values(), default=0)
    if device == "cpu":
        options: list[tuple[Offload, int]] = [("none", total + RUNTIME_BYTES)]
        free = memory.ram_bytes
    else:
        free = memory.vram_bytes or 0
        options = [
            ("none", total + CUDA_CONTEXT_BYTES),
            ("model", largest + CUDA_CONTEXT_BYTES),
            ("sequential", largest // 20 + CUDA_CONTEXT_BYTES),  # a layer at a time
        ]
        check_ram(total, memory)
    limit = int(free * SHARE)
    for choice, resident in options:
        if offload not in (None, choice):
            continue
        for tiling, activations in ((False, whole), (True, tiled)):
            if resident + activations <= limit:
                because = reasons(choice, device, resident + activations, free, tiling=tiling)
                return Placement(
                    device=device,
                    dtype=dtype,
                    offload=choice,
                    tiling=tiling,
                    weights_bytes=total,
                    activation_bytes=activations,
                    because=because,
                )
    raise does_not_fit(options[-1][1] + tiled, free, device, dtype)


def decode_bytes(size: Size, each: int, channels: int) -> int:
    """Peak of decoding one picture at once."""
    return size.width_px * size.height_px * channels * each * DECODE_COPIES


def check_ram(weights_bytes: int, memory: Memory) -> None:
    """Weights pass through RAM on their way to a device, and stay there when offloaded."""
    if weights_bytes + RUNTIME_BYTES > memory.ram_bytes * SHARE:
        raise does_not_fit(weights_bytes + RUNTIME_BYTES, memory.ram_bytes, "cpu", "")


def reasons(choice: Offload, device: str, needed: int, free: int, *, tiling: bool) -> tuple[str, ...]:
    """One line a decision."""
    lines = [f"{gib(needed)} needed on {device}, {gib(free)} free"]
    if choice == "model":
        lines.append("one component at a time on the device: all of them together do not fit")
    if choice == "sequential":
        lines.append("one layer at a time on the device: the largest component does not fit")
    if tiling:
        lines.append("the picture is decoded in tiles: at once it does not fit")
    return tuple(lines)


def does_not_fit(needed: int, free: int, device: str, dtype: str) -> DoesNotFit:
    """The error with its numbers; half the bytes a number is the first thing to try."""
    hint = "try --dtype bfloat16" if dtype == "float32" else "choose a smaller --size or a smaller model"
    return DoesNotFit(
        f"the model does not fit: {gib(needed)} needed on {device}, {gib(free)} free",
        hint=hint,
        details={"needed_bytes": needed, "free_bytes": free, "device": device},
    )


def gib(count: int) -> str:
    """Bytes for people."""
    return f"{count / (1 << 30):.1f} GiB"
