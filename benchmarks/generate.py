"""A cold `fluxctx generate` beside a bare diffusers script that loads the same model, makes the same picture and
writes a PNG.  The key file takes Argon2id out.  Wall clock, medians, and each side's peak memory.

    python benchmarks/generate.py [--runs 5] [--steps 20]
"""

from __future__ import annotations

import argparse
import compileall
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import fluxctx as package

BARE = """
import sys, torch
from diffusers import FluxKontextPipeline
torch.set_grad_enabled(False)
pipe = FluxKontextPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32, local_files_only=True)
pipe.set_progress_bar_config(disable=True)
picture = pipe(
    prompt="a red apple", negative_prompt="", true_cfg_scale=3.0, num_inference_steps=int(sys.argv[3]),
    height=64, width=64, max_sequence_length=16, guidance_scale=2.5,
    generator=torch.Generator("cpu").manual_seed(7), _auto_resize=False, max_area=64 * 64,
).images[0]
picture.resize((256, 256)).save(sys.argv[2])
"""


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """(seconds, peak MiB of the largest process) of one run, in a child of its own so that the peaks do not mix."""
    script = (
        "import resource, subprocess, sys, time\n"
        "began = time.perf_counter()\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "took = time.perf_counter() - began\n"
        "print(took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], env=environment, check=True, capture_output=True, text=True
    )
    took, peak = done.stdout.split()
    return float(took), float(peak)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    root = Path(package.__file__).parent
    compileall.compile_dir(root, quiet=2)  # as pip does when it installs
    fluxctx = str(Path(sys.executable).with_name("fluxctx"))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        secret = work / "passphrase"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        environment = {**os.environ, **offline, "FLUXCTX_HOME": str(work / "home")}
        first = {**environment, "FLUXCTX_PASSPHRASE_FILE": str(secret)}
        for command in (["init", "--accept-terms", "--no-timer"], ["vault", "keyfile", str(work / "key")]):
            subprocess.run([fluxctx, *command], env=first, check=True, stdout=subprocess.DEVNULL)
        environment["FLUXCTX_KEYFILE"] = str(work / "key")
        steps, out = str(asked.steps), str(work / "out.png")
        ours = [fluxctx, "generate", "a red apple", "--seed", "7", "--steps", steps, "-o", out, "--force"]
        bare = [sys.executable, "-c", BARE, str(root / "engine" / "starter" / "model"), out, steps]
        runs = [(measured(bare, environment), measured(ours, environment)) for _ in range(asked.runs)]
    bare_s, ours_s = (statistics.median(run[side][0] for run in runs) for side in (0, 1))
    bare_mib, ours_mib = (max(run[side][1] for run in runs) for side in (0, 1))
    print("| side | median s | ratio | peak MiB of its largest process |\n|---|---|---|---|")
    print(f"| bare diffusers | {bare_s:.2f} | 1.00 | {bare_mib:.0f} |")
    print(f"| fluxctx generate | {ours_s:.2f} | {ours_s / bare_s:.2f} | {ours_mib:.0f} |")


main()
