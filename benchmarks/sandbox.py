"""What confinement costs: setting it up, and generating inside it.

    python benchmarks/sandbox.py --model DIR [--rounds 20] [--steps 8] [--spawns 30]

Two resident children with the same model, one confined and one not, take turns; CPU seconds are compared,
since the wall clock of a shared machine says nothing.  The interval is a bootstrap of the median ratio.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from pathlib import Path

from fluxctx.confined.probe import run_probe
from fluxctx.confined.spawn import ENVIRONMENT, Child, Grants, launch, spawn
from fluxctx.confined.wire import Channel

HERE = Path(__file__).resolve().parent


# --- the children's side ------------------------------------------------------------------------------


def main(channel: Channel) -> None:
    """Load the model once, then generate once for every frame."""
    import hashlib

    import torch
    from diffusers import FluxPipeline

    torch.set_num_threads(1)
    head = channel.recv().head
    pipeline = FluxPipeline.from_pretrained(
        head["model"], torch_dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    channel.send("loaded", {})
    while True:
        job = channel.recv().head
        started = time.process_time()
        with torch.inference_mode():
            pixels = pipeline(
                prompt="a red apple",
                negative_prompt="",
                true_cfg_scale=3,
                height=64,
                width=64,
                num_inference_steps=job["steps"],
                max_sequence_length=16,
                generator=torch.Generator("cpu").manual_seed(job["seed"]),
                output_type="np",
            ).images[0]
        used = time.process_time() - started
        channel.send("done", {"cpu_s": used, "sha256": hashlib.sha256(pixels.tobytes()).hexdigest()})


# --- the parent's side --------------------------------------------------------------------------------

RUN_IN_FLOOR = (
    "import sys; sys.path.insert(0, {here!r}); sys.argv = ['child', 'sandbox', '{fd}'];"
    "from fluxctx.confined import child; child.run()"
)
RUN_FREE = (
    "import sys; sys.path.insert(0, {here!r}); import sandbox; from fluxctx.confined.wire import Channel;"
    "channel = Channel({fd}); channel.recv(); sandbox.main(channel)"
)


def start(code: str, model: str) -> Child:
    """Start one of the two children; the start frame is the same."""
    import os

    def command(fd: str) -> list[str]:
        return [sys.executable, "-I", "-B", "-W", "ignore", "-c", code.format(here=str(HERE), fd=fd)]

    frame = {"parent_pid": os.getpid(), "read": [model], "devices": "none"}
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return Child(lambda: launch(command, environment), start=frame)


def generate(child: Child, steps: int, seed: int) -> tuple[float, str]:
    """Return one generation's CPU seconds and digest."""
    child.channel.send("job", {"steps": steps, "seed": seed})
    head = child.channel.recv().head
    return head["cpu_s"], head["sha256"]


def measure_generation(model: str, rounds: int, steps: int) -> dict[str, object]:
    """Paired ratios of CPU seconds, inside over outside, in alternating order."""
    with start(RUN_IN_FLOOR, model) as inside, start(RUN_FREE, model) as outside:
        layers = inside.ready()
        for child in (inside, outside):
            child.channel.send("load", {"model": model})
            child.channel.recv()
            generate(child, steps, 0)  # warm
        ratios, equal, seconds = [], True, []
        for seed in range(rounds):
            pair = {}
            for child in (inside, outside) if seed % 2 else (outside, inside):
                pair[child] = generate(child, steps, seed)
            ratios.append(pair[inside][0] / pair[outside][0])
            seconds.append(pair[outside][0])
            equal &= pair[inside][1] == pair[outside][1]
    low, high = bootstrap(ratios)
    return {
        "rounds": rounds,
        "steps": steps,
        "outside_cpu_s": round(statistics.median(seconds), 4),
        "ratio": round(statistics.median(ratios), 4),
        "interval_95": [round(low, 4), round(high, 4)],
        "float_bytes_equal": equal,
        "landlock_abi": layers.landlock_abi,
        "userns": layers.userns,
    }


def bootstrap(values: list[float], draws: int = 4000) -> tuple[float, float]:
    """A 95 % interval for the median."""
    source = random.Random(1)
    medians = sorted(statistics.median(source.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(draws * 0.025)], medians[int(draws * 0.975)]


def measure_setup(spawns: int) -> dict[str, object]:
    """Milliseconds of the confinement itself, and from spawn() to the floor, beside a bare interpreter."""
    import subprocess

    setup, until_floor, bare, probe = [], [], [], []
    for _ in range(spawns):
        began = time.perf_counter()
        with spawn("fluxctx.confined.attempts", grants=Grants()) as child:
            setup.append(child.ready().setup_ms)
            until_floor.append((time.perf_counter() - began) * 1e3)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-B", "-c", "pass"], check=True)
        bare.append((time.perf_counter() - began) * 1e3)
    for _ in range(max(3, spawns // 5)):
        began = time.perf_counter()
        run_probe()
        probe.append((time.perf_counter() - began) * 1e3)
    return {
        "spawns": spawns,
        "setup_ms": round(statistics.median(setup), 2),
        "spawn_to_floor_ms": round(statistics.median(until_floor), 1),
        "bare_interpreter_ms": round(statistics.median(bare), 1),
        "whole_probe_ms": round(statistics.median(probe), 1),
    }


def run() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--spawns", type=int, default=30)
    words = parser.parse_args()
    model = str(Path(words.model).resolve())
    result = {"setup": measure_setup(words.spawns)}
    result["generation"] = measure_generation(model, words.rounds, words.steps)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    run()
