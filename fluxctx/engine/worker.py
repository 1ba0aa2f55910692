"""The worker's side of the conversation: load one model, render jobs, say what happens, nothing else.

    parent -> load {directory, pipeline, dtype, device, threads}
              render {job fields, images: [{width_px, height_px, channels}], mask} + their pixels end to end
              bye {}
    worker -> phase {name} ; loaded {runtime facts} ; progress {index, step, steps, elapsed_s}
              result {index, seed, width_px, height_px, runtime} + RGB pixels ; done {}
              failed {code: "memory" | "pixels" | "unsupported" | "error", kind, where}

What goes wrong is told by class and place, never by its text: the text may quote the prompt.
"""

from __future__ import annotations

import time
import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from fluxctx.confined.wire import Channel, Frame

if TYPE_CHECKING:
    from fluxctx.engine.pipelines import Job, LoadedModel, OnStep


def main(channel: Channel) -> None:
    """Serve one parent until it says bye or is gone.  Called by confined.child once the floor holds."""
    model: LoadedModel | None = None
    while True:
        frame = channel.recv()
        if frame.kind == "bye":
            return
        try:
            if frame.kind == "load":
                model = load(frame.head, channel)
            elif frame.kind == "render" and model is not None:
                render(model, frame, channel)
            else:
                channel.send("failed", {"code": "error", "kind": "Protocol", "where": frame.kind})
        except EOFError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever a model's code raises is the parent's to report)
            channel.send("failed", failure(error))


def load(head: dict[str, Any], channel: Channel) -> LoadedModel:
    """Import torch and diffusers, then the weights; frozen from the first moment."""
    channel.send("phase", {"name": "load"})
    from fluxctx.engine.pipelines import LoadedModel

    model = LoadedModel(
        head["directory"],
        pipeline=head["pipeline"],
        dtype=head["dtype"],
        device=head["device"],
        threads=head["threads"],
    )
    channel.send("loaded", model.facts())
    return model


def render(model: LoadedModel, frame: Frame, channel: Channel) -> None:
    """Draw every seed of one job and send each picture as soon as it is there."""
    head = frame.head
    before = model.digest
    pictures = model.render(
        read_job(head, frame.blob),
        on_step=lambda index: progress(channel, index),
        on_phase=lambda name: channel.send("phase", {"name": name}),
    )
    for index, (seed, pixels) in enumerate(zip(head["seeds"], pictures, strict=True)):
        model.digest = model.weights_digest()
        attestation = {
            "weights_sha256_before": before,
            "weights_sha256_after": model.digest,
            "inference_mode": True,
            "trainable_parameters": model.trainable_parameters(),
        }
        channel.send(
            "result",
            {
                "index": index,
                "seed": seed,
                "width_px": head["width_px"],
                "height_px": head["height_px"],
                "runtime": {**model.facts(), "attestation": attestation},
            },
            pixels,
        )
    channel.send("done", {})


def progress(channel: Channel, index: int) -> OnStep:
    """Tell the parent of every step; it decides how often to pass that on."""
    started = time.perf_counter()

    def on_step(done: int, total: int, latents: object) -> None:
        elapsed_s = time.perf_counter() - started
        channel.send("progress", {"index": index, "step": done, "steps": total, "elapsed_s": elapsed_s})

    return on_step


def read_job(head: dict[str, Any], blob: bytes) -> Job:
    """Cut the blob into pictures and bring them to the render size."""
    from fluxctx.engine import pipelines

    width_px, height_px = head["width_px"], head["height_px"]
    view, images, mask = memoryview(blob), [], None
    for about in head["images"]:
        raw, view = take(view, about)
        images.append(pipelines.reference(pipelines.picture(raw, **about), width_px, height_px))
    if head["mask"] is not None:
        raw, view = take(view, head["mask"])
        mask = pipelines.mask_of(pipelines.picture(raw, **head["mask"]), width_px, height_px)
    return pipelines.Job(
        pipeline=head["pipeline"],
        prompt=head["prompt"],
        negative_prompt=head["negative_prompt"],
        width_px=width_px,
        height_px=height_px,
        steps=head["steps"],
        guidance=head["guidance"],
        guidance_parameter=head["guidance_parameter"],
        strength=head["strength"],
        seeds=head["seeds"],
        images=images,
        mask=mask,
        max_prompt_tokens=head["max_prompt_tokens"],
        tiling=head["tiling"],
    )


def take(view: memoryview, about: dict[str, int]) -> tuple[bytes, memoryview]:
    """One picture's pixels off the front."""
    count = about["width_px"] * about["height_px"] * about["channels"]
    return bytes(view[:count]), view[count:]


def failure(error: Exception) -> dict[str, str]:
    """An exception's class and where it came from; its text stays here."""
    kind = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
    codes = {
        "OutOfMemoryError": "memory",
        "MemoryError": "memory",
        "BrokenPixels": "pixels",
        "Unsupported": "unsupported",
    }
    code = codes.get(kind, "error")
    if (
        kind == "RuntimeError" and "alloc" in str(error).lower()
    ):  # torch's CPU allocator has no class of its own
        code = "memory"
    return {"code": code, "kind": kind, "where": where}
