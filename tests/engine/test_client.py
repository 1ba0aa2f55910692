"""The parent's side: it believes nothing that a worker says, ends it in time, and repeats no prompt."""

import time
from pathlib import Path

import pytest

from fluxctx.domain import Phase, Progress, Workflow
from fluxctx.engine.client import Engine, Throttle
from fluxctx.engine.placement import Memory
from fluxctx.errors import (
    DoesNotFit,
    EngineFailed,
    FluxctxError,
    ModelAltered,
    ModelNotFound,
    OutOfMemory,
    TimedOut,
)
from tests.engine.fakes import FakeSpawn, draw, result
from tests.engine.models import JOB, STARTER, catalog, picture, request

PLENTY = Memory(ram_bytes=64 << 30)


def engine(script=draw, **options):
    spawn = FakeSpawn(script)
    options = {"memory": lambda: PLENTY, "threads": 1, **options}
    return Engine(catalog(Path("/nonexistent")), spawn=spawn, **options), spawn


def render(room, on_event=lambda event: None, images=None, **changes):
    model = room.find("starter")
    job = room.plan(request(**changes), model, JOB, images or {})
    with room.render(job, model, on_event) as results:
        return list(results)


def fails(script, error=EngineFailed):
    room, spawn = engine(script)
    with pytest.raises(error) as failed:
        render(room)
    said = repr(failed.value) + failed.value.hint + repr(failed.value.details)
    assert "apple" not in said
    assert spawn.children[0].poll() is not None, "a worker that failed is not used again"
    return failed.value


def test_every_seed_becomes_one_result_with_its_attestation():
    room, _ = engine()
    results = render(room, seeds=(5, 7))
    assert [(r.index, r.seed, r.image.width_px) for r in results] == [(0, 5, 64), (1, 7, 64)]
    assert results[0].runtime["attestation"]["layers"]["seccomp"] is True


def test_one_worker_serves_several_renders_and_another_dtype_gets_another_worker():
    room, spawn = engine()
    render(room)
    render(room)
    assert len(spawn.children) == 1
    render(room, dtype="bfloat16")
    assert len(spawn.children) == 2
    assert spawn.children[0].poll() is not None


def test_a_worker_that_died_in_between_is_replaced():
    room, spawn = engine()
    render(room)
    spawn.children[0].end(1)
    assert len(render(room)) == 1
    assert len(spawn.children) == 2


def test_warming_sends_no_prompt_and_the_render_uses_the_warm_worker():
    room, spawn = engine()
    room.warm(room.find("starter"))
    render(room, prompt="a green apple")
    assert len(spawn.children) == 1
    assert [frame.kind for frame in spawn.children[0].received] == ["load", "render"]
    assert "apple" not in str(spawn.children[0].received[0])


def test_the_worker_may_read_the_model_and_nothing_else():
    room, spawn = engine()
    render(room)
    (grants,) = spawn.grants
    assert grants.read == (str(STARTER / "model"),)
    assert grants.devices == "none"


def test_pictures_cross_as_raw_pixels_end_to_end():
    room, spawn = engine()
    image, mask = picture(4, 2, 3), picture(4, 2, 1, value=255)
    render(room, images={"image": [image], "mask": [mask]}, workflow=Workflow.INPAINT)
    frame = spawn.children[0].received[-1]
    assert frame.blob == image.pixels + mask.pixels
    assert frame.head["images"] == [{"width_px": 4, "height_px": 2, "channels": 3}]
    assert frame.head["mask"]["channels"] == 1


def test_progress_says_speed_and_what_is_left_at_most_ten_times_a_second():
    room, _ = engine()
    seen = []
    render(room, seen.append, steps=50)
    progress = [event for event in seen if isinstance(event, Progress)]
    assert progress[-1] == Progress(index=0, step=50, steps=50, it_per_s=2.0, eta_s=0.0)
    assert progress[0].eta_s == pytest.approx(24.5)
    assert len(progress) < 25
    assert Phase(name="denoise") in seen


def test_the_throttle_lets_one_through_an_interval_and_always_the_last():
    now = iter([0.0, 0.05, 0.1, 0.11, 0.12])
    throttle = Throttle(0.1, clock_s=lambda: next(now))
    assert [throttle.due(last=last) for last in (False, False, False, True, False)] == [
        True,
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("status", [-9, -11, 1])
def test_a_worker_that_dies_is_an_engine_failure_without_its_words(status):
    def die(channel, frame):
        children[0].end(status)

    room, spawn = engine(die)
    children = spawn.children
    with pytest.raises(EngineFailed) as failed:
        render(room)
    assert "apple" not in repr(failed.value)
    assert ("signal" in failed.value.message) == (status < 0)
    assert failed.value.hint


def test_running_out_of_memory_has_its_own_error():
    fails(lambda c, f: c.send("failed", {"code": "memory", "kind": "x", "where": "y"}), OutOfMemory)


def test_pixels_that_are_not_numbers_are_told_as_such():
    failed = fails(lambda c, f: c.send("failed", {"code": "pixels", "kind": "BrokenPixels", "where": "y"}))
    assert "numbers" in failed.message


def test_a_failure_is_told_by_class_and_place_and_never_by_free_text():
    head = {"code": "error", "kind": "RuntimeError", "where": "pipeline_flux.py:12"}
    assert "RuntimeError at pipeline_flux.py:12" in fails(lambda c, f: c.send("failed", head)).message
    head = {"code": "error", "kind": "you wrote: a red apple", "where": ["a red apple"]}
    assert "unknown at unknown" in fails(lambda c, f: c.send("failed", head)).message


@pytest.mark.parametrize(
    "script",
    [
        lambda c, f: c.send("done", {}),
        lambda c, f: c.send("hello", {}),
        lambda c, f: c.send("phase", {"name": "policy"}),
        lambda c, f: c.send("phase", {"name": ["a red apple"]}),
        lambda c, f: c.send("progress", {"index": 5, "step": 1, "steps": 1, "elapsed_s": 1.0}),
        lambda c, f: c.send("progress", {"index": 0, "step": 2, "steps": 1, "elapsed_s": 1.0}),
        lambda c, f: c.send("progress", {"index": 0, "step": True, "steps": 1, "elapsed_s": 1.0}),
        lambda c, f: c.send("progress", {}),
        lambda c, f: c.send("result", result(f.head, 0, 0), b"short"),
        lambda c, f: c.send("result", result(f.head, 0, 1), bytes(64 * 64 * 3)),
        lambda c, f: c.send("result", result(f.head, 1, 0), bytes(64 * 64 * 3)),
        lambda c, f: c.send("result", result(f.head, 0, 0, width_px=1 << 40), bytes(64 * 64 * 3)),
        lambda c, f: c._write(memoryview(b"GET / HTTP/1.1\r\n\r\n")),
    ],
)
def test_what_breaks_the_protocol_ends_the_worker(script):
    fails(script)


def test_facts_that_are_long_or_deep_are_dropped():
    def script(channel, frame):
        runtime = {"a": "x" * 81, "b": ["list"], "c d": 1, "dtype": "float32", "attestation": "none"}
        channel.send("result", result(frame.head, 0, 0, runtime=runtime), bytes(64 * 64 * 3))
        channel.send("done", {})

    room, _ = engine(script)
    (rendered,) = render(room)
    assert set(rendered.runtime) == {"dtype", "attestation"}
    assert set(rendered.runtime["attestation"]) == {"layers"}


def hang(channel, frame):
    channel.recv()  # until the parent is gone


def test_the_time_allowed_ends_a_worker_that_hangs():
    room, spawn = engine(hang, timeout_s=0.2)
    started = time.monotonic()
    with pytest.raises(TimedOut):
        render(room)
    assert time.monotonic() - started < 2
    assert spawn.children[0].poll() is not None


def test_a_worker_that_stalls_within_a_frame_is_ended_too():
    def half(channel, frame):
        channel._write(memoryview(b"FXC1\x06"))
        hang(channel, frame)

    room, _ = engine(half, timeout_s=0.2)
    with pytest.raises(TimedOut):
        render(room)
    room.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, GeneratorExit])
def test_leaving_the_context_early_kills_the_worker(error):
    room, spawn = engine()
    model = room.find("starter")
    job = room.plan(request(seeds=(1, 2, 3)), model, JOB, {})
    with pytest.raises(error), room.render(job, model, lambda event: None) as results:  # noqa: PT012
        next(results)
        raise error
    assert spawn.children[0].poll() is not None


def test_a_listener_that_raises_kills_the_worker():
    room, spawn = engine()

    def listen(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(room, listen)
    assert all(child.poll() is not None for child in spawn.children)


def test_leaving_without_taking_the_pictures_kills_the_worker_only_if_it_had_begun():
    room, spawn = engine()
    model = room.find("starter")
    job = room.plan(request(), model, JOB, {})
    with room.render(job, model, lambda event: None):
        pass
    assert spawn.children[0].poll() is None, "nothing was asked of it yet"


def test_warnings_of_the_plan_come_first_and_once():
    room, _ = engine()
    seen = []
    render(room, seen.append)
    assert seen[0].code == "enlarged"
    assert sum(getattr(event, "code", "") == "enlarged" for event in seen) == 1


def test_plans_that_are_never_rendered_do_not_pile_up():
    room, _ = engine()
    model = room.find("starter")
    for number in range(200):
        room.plan(request(), model, f"job_{number}", {})
    assert len(room._warnings) <= 64


def test_what_does_not_fit_is_refused_before_anything_starts():
    room, spawn = engine(memory=lambda: Memory(ram_bytes=100 << 20))
    with pytest.raises(DoesNotFit):
        render(room)
    assert spawn.children == []


def test_an_altered_model_is_found_before_it_learns_the_prompt(tmp_path):
    import shutil

    shutil.copytree(STARTER, tmp_path / "starter")
    spawn = FakeSpawn(draw)
    room = Engine(
        catalog(tmp_path / "models", tmp_path / "starter"), spawn=spawn, threads=1, memory=lambda: PLENTY
    )
    weights = tmp_path / "starter" / "model" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(ModelAltered):
        render(room)
    assert spawn.children[0].poll() is not None
    assert all(frame.kind == "load" for frame in spawn.children[0].received)


def test_an_unknown_model_is_not_found():
    with pytest.raises(ModelNotFound):
        engine()[0].find("nothing")


def test_every_error_of_the_engine_has_a_hint_and_speaks_lower_case():
    raised: list[FluxctxError] = [
        fails(lambda c, f: c.send("hello", {})),
        fails(lambda c, f: c.send("done", {})),
    ]
    for error in raised:
        assert error.hint
        assert error.message[0].islower()
        assert not error.message.endswith(".")
