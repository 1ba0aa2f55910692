"""A real generation with the starter model; also importable, for the same run without a sandbox."""

import hashlib
import time


def generate(model, *, steps=2, seeds=(7,), dtype="float32", threads=1):
    """Return the digest of the float pixels of each seed and the CPU seconds of each run."""
    began = time.perf_counter()
    import torch

    torch.set_num_threads(threads)
    from diffusers import FluxPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    imported = time.perf_counter()
    pipeline = FluxPipeline.from_pretrained(
        model, torch_dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    loaded = time.perf_counter()
    digests, cpu_s = [], []
    for seed in seeds:
        started = time.process_time()
        with torch.inference_mode():
            pixels = pipeline(
                prompt="a red apple",
                negative_prompt="",
                true_cfg_scale=3,
                height=64,
                width=64,
                num_inference_steps=steps,
                max_sequence_length=16,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="np",
            ).images[0]
        cpu_s.append(time.process_time() - started)
        digests.append(hashlib.sha256(pixels.tobytes()).hexdigest())
    return {"sha256": digests, "cpu_s": cpu_s, "import_s": imported - began, "load_s": loaded - imported}


def main(channel):
    while True:
        head = channel.recv().head
        channel.send("done", generate(head.pop("model"), **head))
