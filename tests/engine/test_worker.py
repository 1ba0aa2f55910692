"""The real worker: confined, with the real starter model, against the same pictures drawn without us.

One worker serves the module; a test that ends it costs one restart.
"""

import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fluxctx.confined import spawn as spawning
from fluxctx.domain import Phase, Progress, Size, Workflow
from fluxctx.engine.client import Engine
from fluxctx.errors import EngineFailed, TimedOut
from tests.engine.models import JOB, STARTER, catalog, picture, request

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="not run: linux is missing"),
]

BARE = """
import hashlib, json, sys, torch
from PIL import Image
torch.set_num_threads(1)
from diffusers import FluxPipeline, FluxKontextPipeline, FluxImg2ImgPipeline, FluxInpaintPipeline
path = sys.argv[1]
def pipe(cls):
    loaded = cls.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded
def common(seed):
    return dict(negative_prompt="", true_cfg_scale=3.0, height=64, width=64, num_inference_steps=4,
                max_sequence_length=16, generator=torch.Generator().manual_seed(seed))
grey = Image.new("RGB", (64, 64), (200, 200, 200))
mask = Image.new("L", (64, 64), 255)
t2i = pipe(FluxPipeline)
shown = {
  "text-to-image": [t2i("a red apple", **common(seed)).images[0] for seed in (0, 1)],
  "edit": [pipe(FluxKontextPipeline)(image=grey, prompt="a red apple", max_area=64*64, _auto_resize=False, **common(0)).images[0]],
  "image-to-image": [pipe(FluxImg2ImgPipeline)(image=grey, prompt="a red apple", strength=0.6, **common(0)).images[0]],
  "inpaint": [pipe(FluxInpaintPipeline)(image=grey, mask_image=mask, prompt="a red apple", strength=1.0, **common(0)).images[0]],
}
print(json.dumps({k: [hashlib.sha256(i.tobytes()).hexdigest() for i in v] for k, v in shown.items()}))
"""  # noqa: E501


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    engine = Engine(catalog(tmp_path_factory.mktemp("models")), threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def bare():
    """Digests of the raw pixels that stock diffusers draws in a plain process."""
    command = [sys.executable, "-c", BARE, str(STARTER / "model")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(shown.stdout.splitlines()[-1])


def render(room, on_event=lambda event: None, images=None, name="starter", **changes):
    model = room.find(name)
    job = room.plan(request(**{"steps": 4, "model": name, **changes}), model, JOB, images or {})
    with room.render(job, model, on_event) as results:
        return list(results)


def digests(results):
    return [hashlib.sha256(result.image.pixels).hexdigest() for result in results]


INPUTS = {
    Workflow.TEXT_TO_IMAGE: {},
    Workflow.EDIT: {"image": [picture()]},
    Workflow.IMAGE_TO_IMAGE: {"image": [picture()]},
    Workflow.INPAINT: {"image": [picture()], "mask": [picture(channels=1, value=255)]},
}


@pytest.mark.parametrize("workflow", INPUTS)
def test_the_confined_workers_pixels_are_those_of_bare_diffusers(room, bare, workflow):
    seeds = (0, 1) if workflow is Workflow.TEXT_TO_IMAGE else (0,)
    drawn = render(room, images=INPUTS[workflow], workflow=workflow, seeds=seeds)
    assert digests(drawn) == bare[str(workflow)]


def test_a_picture_does_not_depend_on_its_neighbours(room):
    together = digests(render(room, seeds=(3, 4, 5)))
    assert [digests(render(room, seeds=(seed,)))[0] for seed in (5, 3, 4)] == [together[2], *together[:2]]
    assert len(set(together)) == 3


def test_a_run_is_attested(room):
    (rendered,) = render(room)
    attestation = rendered.runtime["attestation"]
    assert attestation["weights_sha256_before"] == attestation["weights_sha256_after"]
    assert len(attestation["weights_sha256_before"]) == 64
    assert attestation["inference_mode"] is True
    assert attestation["trainable_parameters"] == 0
    assert attestation["layers"]["seccomp"] is True
    assert {"torch", "diffusers", "transformers", "device", "dtype", "threads"} <= set(rendered.runtime)


def test_phases_and_every_last_step_are_told(room):
    seen = []
    render(room, seen.append, seeds=(0, 1))
    names = [event.name for event in seen if isinstance(event, Phase)]
    assert names[-6:] == ["encode", "denoise", "decode"] * 2
    last = [event for event in seen if isinstance(event, Progress) and event.step == event.steps]
    assert [(event.index, event.step) for event in last] == [(0, 4), (1, 4)]


def test_image_to_image_counts_the_steps_it_really_takes(room):
    seen = []
    images = {"image": [picture()]}
    render(room, seen.append, images, workflow=Workflow.IMAGE_TO_IMAGE, steps=10, strength=0.5)
    assert [event.steps for event in seen if isinstance(event, Progress)][-1] == 5


def test_references_of_any_size_and_kind_are_brought_to_the_render_size(room):
    for odd in (picture(37, 91, 4, value=0), picture(300, 20, 1), picture(1, 1, 3)):
        (rendered,) = render(room, images={"image": [odd]}, workflow=Workflow.EDIT, steps=1)
        assert (rendered.image.width_px, rendered.image.height_px) == (64, 64)


def test_an_inpainted_picture_keeps_what_the_mask_leaves(room):
    half = bytes(64 * 32) + b"\xff" * (64 * 32)
    mask = type(picture())(width_px=64, height_px=64, channels=1, pixels=half)
    images = {"image": [picture(value=20)], "mask": [mask]}
    (rendered,) = render(room, images=images, workflow=Workflow.INPAINT, steps=8)
    top, bottom = rendered.image.pixels[: 64 * 24 * 3], rendered.image.pixels[-64 * 24 * 3 :]
    assert abs(sum(top) / len(top) - 20) < 25
    assert abs(sum(bottom) / len(bottom) - 20) > 40


def test_one_step_is_enough_and_bfloat16_differs_from_float32(room):
    (one,) = render(room, steps=1)
    (other,) = render(room, steps=1, dtype="bfloat16")
    assert other.runtime["dtype"] == "bfloat16"
    assert one.image != other.image


@pytest.mark.parametrize("phase", ["load", "encode", "denoise", "decode", "between"])
def test_a_worker_killed_in_any_phase_is_an_error_and_the_next_request_gets_a_new_one(room, phase):
    """The next case is the next request: it begins with the dead worker of the one before."""

    def listen(event):
        if isinstance(event, Phase) and event.name == phase:
            os.kill(room._worker.child.pid, signal.SIGKILL)

    if phase == "load":
        room.close()
    model = room.find("starter")
    job = room.plan(request(steps=4, seeds=(0, 1)), model, JOB, {})
    drawn = []
    with pytest.raises(EngineFailed, match="was killed by signal 9") as failed:  # noqa: PT012, SIM117
        with room.render(job, model, listen) as results:
            for result in results:
                drawn.append(result)
                if phase == "between":
                    os.kill(room._worker.child.pid, signal.SIGKILL)
    assert "apple" not in repr(failed.value)
    assert len(drawn) == (phase == "between")


def test_a_worker_killed_while_it_started_is_an_error_or_replaced_and_then_all_is_well(room):
    room.close()
    room.warm(room.find("starter"))
    os.kill(room._worker.child.pid, signal.SIGKILL)
    with suppress(EngineFailed):
        render(room)
    assert len(render(room, steps=1)) == 1


def test_the_time_allowed_ends_a_real_worker(tmp_path):
    engine = Engine(catalog(tmp_path), threads=1, timeout_s=0.5)
    started = time.monotonic()
    with pytest.raises(TimedOut):
        render(engine)
    assert time.monotonic() - started < 5
    engine.close()


def test_ctrl_c_ends_the_worker_within_a_second(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.engine.models import *\n"
        "from fluxctx.engine.client import Engine\n"
        "e = Engine(catalog(Path(sys.argv[1])), threads=1); m = e.find('starter')\n"
        "j = e.plan(request(steps=100, seeds=tuple(range(1000))), m, JOB, {})\n"
        "def tell(event):\n"
        "    if type(event).__name__ == 'Progress': print(e._worker.child.pid, flush=True)\n"
        "with e.render(j, m, tell) as results: list(results)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        while Path(f"/proc/{pid}").exists() and time.monotonic() - started < 5:
            time.sleep(0.02)
        assert time.monotonic() - started < 1
        assert "KeyboardInterrupt" in process.communicate()[1]


def altered_model(tmp_path, room, name, change):
    """A model of the user's own: the starter with one thing changed, under the starter's defaults."""
    path = tmp_path / name
    shutil.copytree(STARTER, path)
    change(path / "model")
    entry = json.loads((path / "model.json").read_text())
    from fluxctx.engine import digests as hashing

    records = hashing.record_files(path / "model", [row["path"] for row in entry["files"]])
    entry |= {"files": hashing.as_json(records), "sha256": hashing.tree_sha256(records)}
    (path / "model.json").write_text(json.dumps(entry))
    return Engine(catalog(tmp_path / "none", path), threads=1)


def fill_with_nan(model):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    (header,) = struct.unpack("<Q", content[:8])
    content[8 + header :] = b"\xc0\x7f" * ((len(content) - 8 - header) // 2)
    path.write_bytes(content)


def shorten_the_transformer(model):
    path = model / "transformer" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "in_channels": 48}))


def test_pixels_that_are_not_numbers_are_no_picture(tmp_path, room):
    engine = altered_model(tmp_path, room, "nan", fill_with_nan)
    with pytest.raises(EngineFailed, match="numbers out of range"):
        render(engine, steps=1)
    engine.close()


def test_a_model_that_cannot_be_loaded_is_told_by_class_and_place(tmp_path, room):
    engine = altered_model(tmp_path, room, "short", shorten_the_transformer)
    with pytest.raises(EngineFailed, match=r"could not be loaded \(\w+ at \w+\.py:\d+\)"):
        render(engine, steps=1)
    engine.close()


def test_what_the_worker_prints_reaches_nobody(capfd, tmp_path, monkeypatch):
    """A module that floods stdout and stderr, and then serves as the worker does."""

    def command(module, fd, grants):
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            f"sys.argv = ['child', 'noisy_worker', '{fd}']\n"
            "from fluxctx.confined import child; child.run()"
        )
        return [sys.executable, "-I", "-B", "-c", code]

    monkeypatch.setattr(spawning, "child_command", command)
    engine = Engine(catalog(tmp_path), threads=1)
    assert len(render(engine, steps=1)) == 1
    assert "PRINTED" in engine._worker.child.stderr_tail(), "or the test prints nothing"
    engine.close()
    out, err = capfd.readouterr()
    assert "PRINTED" not in out + err


def test_two_threads_take_turns_at_one_worker(room):
    alone = digests(render(room))
    drawn = []
    threads = [threading.Thread(target=lambda: drawn.append(digests(render(room)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == [alone] * 3


def test_the_default_picture_is_the_native_one_enlarged(room):
    model = room.find("starter")
    asked = request()
    job = room.plan(asked, model, JOB, {})
    assert room.output_size(asked, model) == Size(width_px=256, height_px=256)
    assert job.render_size == Size(width_px=64, height_px=64)
