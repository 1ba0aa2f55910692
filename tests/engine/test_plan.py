"""Requests become jobs or are refused with what the model can do; a prompt is never repeated."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxctx.domain import LoraRef, Size, Workflow
from fluxctx.engine import plan
from fluxctx.engine.words import load_words, read_prompt
from fluxctx.errors import InvalidRequest
from tests.engine.models import JOB, STARTER, catalog, picture, request, small_model

SECRET = "zyxwvut"


@pytest.fixture(scope="module")
def starter():
    return catalog(Path("/nonexistent")).entry("starter")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    models = catalog(root / "models")
    models.add(small_model(root / "m"), name="large", licence_accepted=True)
    return models.entry("large")


def planned(entry, images=None, **changes):
    return plan.plan_render(request(**changes), entry, JOB, images or {})


def test_everything_that_is_not_said_is_the_models_default(starter):
    job = planned(starter)
    assert (job.steps, job.guidance, job.dtype, job.device) == (20, 3.0, "float32", "cpu")
    assert job.render_size == Size(width_px=64, height_px=64)
    assert plan.output_size(request(), starter.model) == Size(width_px=256, height_px=256)


def test_the_starter_reads_lower_case(starter, large):
    assert planned(starter, prompt="A Red APPLE").prompt == "a red apple"
    assert planned(large, prompt="A Red APPLE").prompt == "A Red APPLE"


@pytest.mark.parametrize("factor", range(1, 9))
def test_the_starter_is_enlarged_by_whole_factors_and_says_so(starter, factor):
    size = Size(width_px=64 * factor, height_px=64 * factor)
    asked = request(size=size)
    job = plan.plan_render(asked, starter, JOB, {})
    codes = [
        warned.code for warned in plan.warnings(asked, starter, job, plan.output_size(asked, starter.model))
    ]
    assert job.render_size == Size(width_px=64, height_px=64)
    assert codes == (["enlarged"] if factor > 1 else [])


@pytest.mark.parametrize("size", [(100, 100), (64, 128), (576, 576), (1, 1), (16384, 16384)])
def test_a_size_the_model_cannot_do_is_refused_with_those_it_can(starter, size):
    with pytest.raises(InvalidRequest) as refused:
        planned(starter, size=Size(width_px=size[0], height_px=size[1]))
    assert "64x64, 128x128" in refused.value.hint


def test_a_free_size_must_be_a_whole_multiple(large):
    assert planned(large, size=Size(width_px=1024, height_px=768)).render_size.height_px == 768
    with pytest.raises(InvalidRequest) as refused:
        planned(large, size=Size(width_px=1000, height_px=1001))
    assert refused.value.hint == "--size 992x1008"
    with pytest.raises(InvalidRequest, match="was made for about"):
        planned(large, size=Size(width_px=16384, height_px=16384))


def test_without_a_size_an_edit_keeps_its_pictures_proportions(large):
    size = planned(large, {"image": [picture(300, 150)]}, workflow=Workflow.IMAGE_TO_IMAGE).render_size
    assert size == Size(width_px=1456, height_px=720)


@pytest.mark.parametrize("steps", [0, -1, 101, 10**9])
def test_steps_outside_the_models_range_are_refused(starter, steps):
    with pytest.raises(InvalidRequest, match="between 1 and 100"):
        planned(starter, steps=steps)


@pytest.mark.parametrize("guidance", [-0.1, 50.1, float("nan"), float("inf")])
def test_a_guidance_that_means_nothing_is_refused(starter, guidance):
    with pytest.raises(InvalidRequest, match="guidance"):
        planned(starter, guidance=guidance)


def test_a_model_without_guidance_refuses_one(starter):
    with pytest.raises(InvalidRequest, match="takes no guidance"):
        planned(replace(starter, guidance="none"), guidance=2.0)


@pytest.mark.parametrize("seeds", [(), (-1,), (2**63,), (0,) * 1001])
def test_negative_huge_or_absent_seeds_are_refused(starter, seeds):
    with pytest.raises(InvalidRequest):
        planned(starter, seeds=seeds)


@pytest.mark.parametrize(
    "text", ["", "  \n ", SECRET * 20_000, f"{SECRET}\0", f"{SECRET}\x1b[31m", f"{SECRET}\ud800"]
)
def test_a_prompt_that_cannot_be_drawn_is_refused_without_being_repeated(starter, text):
    for field in ("prompt", "negative_prompt"):
        if field == "negative_prompt" and not text.strip():
            continue
        with pytest.raises(InvalidRequest) as refused:
            planned(starter, **{field: text})
        assert SECRET not in repr(refused.value) + refused.value.hint


def test_newlines_and_tabs_are_text(starter):
    assert planned(starter, prompt="a red\n\tapple").prompt == "a red\n\tapple"


@pytest.mark.parametrize("workflow", [Workflow.UPSCALE, Workflow.TEXT_TO_VIDEO])
def test_a_workflow_the_model_lacks_is_refused_with_those_it_has(starter, workflow):
    with pytest.raises(InvalidRequest) as refused:
        planned(starter, workflow=workflow)
    assert "text-to-image" in refused.value.hint


@pytest.mark.parametrize(
    ("workflow", "images"),
    [
        (Workflow.TEXT_TO_IMAGE, {"image": [picture()]}),
        (Workflow.EDIT, {}),
        (Workflow.EDIT, {"image": [picture(), picture()]}),
        (Workflow.EDIT, {"image": [picture()], "mask": [picture(channels=1)]}),
        (Workflow.INPAINT, {"image": [picture()]}),
        (Workflow.INPAINT, {"mask": [picture(channels=1)]}),
        (Workflow.INPAINT, {"image": [picture()], "mask": [picture(32, 32, 1)]}),
        (Workflow.INPAINT, {"image": [picture()], "mask": [picture(channels=1)] * 2}),
        (Workflow.EDIT, {"image": [picture()], "video": [picture()]}),
    ],
)
def test_the_wrong_pictures_for_a_workflow_are_refused(starter, workflow, images):
    with pytest.raises(InvalidRequest):
        planned(starter, images, workflow=workflow)


@pytest.mark.parametrize(
    "changes",
    [
        {"scheduler": "euler"},
        {"loras": (LoraRef(path="/x"),)},
        {"frames": 9},
        {"fps": 8},
        {"strength": 0.5},
        {"dtype": "int8"},
        {"device": "tpu"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_the_engine_cannot_do_is_refused_and_never_ignored(starter, changes):
    with pytest.raises(InvalidRequest):
        planned(starter, **changes)


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.01, float("nan")])
def test_strength_outside_its_range_is_refused(starter, strength):
    with pytest.raises(InvalidRequest, match="strength"):
        planned(starter, {"image": [picture()]}, workflow=Workflow.IMAGE_TO_IMAGE, strength=strength)


def test_a_strength_that_leaves_no_step_is_refused(starter):
    with pytest.raises(InvalidRequest, match="at least 1"):
        planned(starter, {"image": [picture()]}, workflow=Workflow.IMAGE_TO_IMAGE, strength=0.04, steps=20)


def test_a_picture_of_other_proportions_is_said_to_be_padded(starter):
    asked = request(workflow=Workflow.EDIT)
    job = plan.plan_render(asked, starter, JOB, {"image": [picture(100, 50)]})
    codes = [warned.code for warned in plan.warnings(asked, starter, job, job.render_size)]
    assert codes == ["padded"]


# --- words --------------------------------------------------------------------------------------------

WORDS = load_words(STARTER / "model" / "tokenizer_2" / "tokenizer.json")


def test_unknown_words_are_told_by_their_place_and_never_by_themselves(starter):
    asked = request(prompt=f"a {SECRET} apple, {SECRET}", size=Size(width_px=64, height_px=64))
    job = plan.plan_render(asked, starter, JOB, {})
    (warned,) = [w for w in plan.warnings(asked, starter, job, job.render_size) if w.code == "unknown_words"]
    assert warned.message == "starter does not know 2 of 4 words: word 2, word 4"


def test_words_beyond_the_models_reach_are_told(starter):
    asked = request(prompt="red " * 20, size=Size(width_px=64, height_px=64))
    job = plan.plan_render(asked, starter, JOB, {})
    (warned,) = plan.warnings(asked, starter, job, job.render_size)
    assert (warned.code, warned.message[-7:]) == ("prompt_cut", "word 16")


@pytest.mark.slow
def test_the_count_of_tokens_is_the_tokenizers_own():
    """Unknown and punctuated words included; one read differently may be off by its own letters only."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(STARTER / "model" / "tokenizer_2" / "tokenizer.json"))
    for prompt in (
        "a red apple, 3d style",
        "a house (blue)!",
        "turn it into flat style",
        "the cat's face?",
        "zyzzyva e-mail",
    ):
        count = len(tokenizer.encode(prompt).ids)
        whole = read_prompt(prompt, WORDS, max_tokens=count)
        assert whole.cut == (), prompt
        assert read_prompt(prompt, WORDS, max_tokens=count - 1).cut != (), prompt


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_reading_a_prompt_never_fails_and_counts_every_word(prompt):
    reading = read_prompt(prompt, WORDS, max_tokens=16)
    assert reading.words == len(prompt.lower().split())
    assert all(1 <= position <= reading.words for position in (*reading.unknown, *reading.cut))
