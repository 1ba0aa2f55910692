"""What fits where, without a GPU: the fastest placement that fits, or why none does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxctx.domain import Size
from fluxctx.engine.machine import free_memory
from fluxctx.engine.placement import Memory, plan_placement
from fluxctx.errors import DoesNotFit

GIB = 1 << 30
FLUX_DEV = {
    "transformer": 11_901_408_320,
    "text_encoder_2": 4_762_310_656,
    "text_encoder": 123_060_480,
    "vae": 83_819_683,
}
MEGAPIXEL = Size(width_px=1024, height_px=1024)


def place(memory, device="cuda", dtype="bfloat16", size=MEGAPIXEL, elements=FLUX_DEV, **kwargs):
    return plan_placement(elements, size, memory, device=device, dtype=dtype, **kwargs)


@pytest.mark.parametrize(
    ("vram_gib", "offload"),
    [(80, "none"), (48, "none"), (32, "model"), (28, "model"), (16, "sequential"), (6, "sequential")],
)
def test_flux_dev_is_offloaded_as_little_as_the_card_allows(vram_gib, offload):
    assert place(Memory(ram_bytes=64 * GIB, vram_bytes=vram_gib * GIB)).offload == offload


def test_a_card_that_holds_no_layer_is_told_by_numbers():
    with pytest.raises(DoesNotFit) as refused:
        place(Memory(ram_bytes=64 * GIB, vram_bytes=1 * GIB))
    assert refused.value.details["free_bytes"] == GIB
    assert refused.value.details["needed_bytes"] > GIB


def test_weights_must_pass_through_ram():
    with pytest.raises(DoesNotFit) as refused:
        place(Memory(ram_bytes=16 * GIB, vram_bytes=80 * GIB))
    assert refused.value.details["device"] == "cpu"


def test_full_precision_that_does_not_fit_hints_at_half():
    with pytest.raises(DoesNotFit) as refused:
        place(Memory(ram_bytes=48 * GIB), device="cpu", dtype="float32")
    assert "bfloat16" in refused.value.hint
    assert place(Memory(ram_bytes=48 * GIB), device="cpu", dtype="bfloat16").offload == "none"


def test_tiles_are_the_last_resort_because_they_are_slower():
    roomy, tight = Memory(ram_bytes=48 * GIB), Memory(ram_bytes=39 * GIB)
    large = Size(width_px=2048, height_px=2048)
    assert not place(roomy, device="cpu").tiling
    assert place(tight, device="cpu", size=large).tiling
    assert "tiles" in place(tight, device="cpu", size=large).because[-1]


def test_an_offload_that_was_insisted_on_is_kept():
    assert (
        place(Memory(ram_bytes=64 * GIB, vram_bytes=80 * GIB), offload="sequential").offload == "sequential"
    )
    with pytest.raises(DoesNotFit):
        place(Memory(ram_bytes=64 * GIB, vram_bytes=16 * GIB), offload="none")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 128), st.integers(0, 128), st.sampled_from(["cpu", "cuda"]))
def test_more_memory_never_makes_a_placement_worse(ram_gib, vram_gib, device):
    def rank(extra):
        try:
            chosen = place(
                Memory(ram_bytes=(ram_gib + extra) * GIB, vram_bytes=(vram_gib + extra) * GIB), device=device
            )
        except DoesNotFit:
            return 99
        return ["none", "model", "sequential"].index(chosen.offload) * 2 + chosen.tiling

    assert rank(8) <= rank(0)


def test_a_containers_limit_counts_as_the_machines(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 99 kB\nMemAvailable:    8388608 kB\n")
    assert free_memory(meminfo=meminfo, cgroup=tmp_path).ram_bytes == 8 * GIB
    (tmp_path / "memory.max").write_text(f"{4 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{3 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {GIB}\n")
    assert free_memory(meminfo=meminfo, cgroup=tmp_path).ram_bytes == 2 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(meminfo=meminfo, cgroup=tmp_path).ram_bytes == 8 * GIB
