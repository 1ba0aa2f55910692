"""What a model can do, read without importing torch; the reading agrees with what Python itself would say."""

import json
import subprocess
import sys

import pytest

from fluxctx.domain import Size, Workflow
from fluxctx.engine.capabilities import FAMILIES, capabilities
from fluxctx.engine.modeldir import inspect
from fluxctx.engine.signatures import Signatures
from fluxctx.errors import ModelRefused
from tests.engine.models import STARTER, edit_json, small_model, write

EVERY_CLASS = sorted({name for family in FAMILIES.values() for name in family.values()})


@pytest.fixture(scope="module")
def signatures():
    return Signatures()


def test_every_class_of_the_table_is_in_the_installed_diffusers(signatures):
    assert [name for name in EVERY_CLASS if signatures.find(name) is None] == []


def test_every_class_of_the_table_takes_what_its_workflow_needs(signatures):
    for family in FAMILIES.values():
        for workflow, name in family.items():
            call = signatures.find(name).call
            assert {"prompt", "generator", "output_type", "num_inference_steps"} <= set(call), name
            assert ("image" in call) >= (workflow is not Workflow.TEXT_TO_IMAGE), name
            assert ("mask_image" in call) >= (workflow is Workflow.INPAINT), name
            assert ("strength" in call) >= (workflow is Workflow.IMAGE_TO_IMAGE), name


@pytest.mark.slow
def test_the_syntax_tree_says_what_the_imported_classes_say(signatures):
    code = (
        "import inspect, json, sys, diffusers\n"
        "for name in sys.argv[1:]:\n"
        "    cls = getattr(diffusers, name)\n"
        "    p = inspect.signature(cls.__call__).parameters.items()\n"
        "    p = [n for n, v in p if n != 'self' and v.kind != v.VAR_KEYWORD]\n"
        "    c = [n for n in inspect.signature(cls.__init__).parameters if n != 'self']\n"
        "    print(json.dumps([name, p, c]))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, *EVERY_CLASS], capture_output=True, text=True, check=True
    )
    rows = [json.loads(line) for line in shown.stdout.splitlines() if line.startswith("[")]
    assert len(rows) == len(EVERY_CLASS)
    for name, call, components in rows:
        ours = signatures.find(name)
        assert (list(ours.call), list(ours.components)) == (call, components), name


def test_a_class_that_does_not_exist_is_not_found(signatures):
    for name in ("FluxPipelin", "DiffusionPipeline", "os.system"):
        assert signatures.find(name) is None


def test_an_inherited_call_is_found_at_its_base(tmp_path):
    folder = tmp_path / "pipelines" / "a"
    folder.mkdir(parents=True)
    (folder / "pipeline_a.py").write_text(
        "class APipeline(DiffusionPipeline):\n"
        "    def __init__(self, vae, unet=None): ...\n"
        "    def __call__(self, prompt, steps: int = 2 * 3, area=4 ** 2, o=f(), *, seed=1, **kwargs): ...\n"
    )
    (folder / "pipeline_b.py").write_text(
        "class BPipeline(APipeline):\n    _optional_components = ['unet']\n"
    )
    found = Signatures(root=tmp_path).find("BPipeline")
    assert found.call == {"prompt": None, "steps": 6, "area": 16, "o": None, "seed": 1}
    assert found.components == ("vae", "unet")


def test_the_cache_answers_without_the_source_and_a_damaged_one_is_read_again(tmp_path):
    first = Signatures(cache_dir=tmp_path).find("FluxPipeline")
    (cache,) = tmp_path.iterdir()
    assert Signatures(root=tmp_path / "no source", cache_dir=tmp_path).find("FluxPipeline") == first
    cache.write_text("{")
    assert Signatures(cache_dir=tmp_path).find("FluxPipeline") == first


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    assert Signatures(cache_dir=blocked / "below").find("FluxPipeline") is not None


def test_the_starters_guidance_is_the_true_one(signatures):
    can = capabilities(inspect(STARTER / "model"), signatures)
    assert can.guidance == "true_cfg_scale"
    assert can.size_multiple == 8
    assert set(can.pipelines) == {Workflow.TEXT_TO_IMAGE, Workflow.IMAGE_TO_IMAGE, Workflow.INPAINT}


def test_embedded_guidance_keeps_its_own_argument(signatures, tmp_path):
    can = capabilities(inspect(small_model(tmp_path / "dev")), signatures)
    assert (can.guidance, can.default_guidance, can.default_steps) == ("guidance_scale", 3.5, 28)
    assert can.default_size == Size(width_px=1024, height_px=1024)
    assert can.size_multiple == 16


def test_a_distilled_model_is_asked_for_few_steps_without_guidance(signatures, tmp_path):
    path = small_model(tmp_path / "schnell")
    edit_json(path / "transformer" / "config.json", guidance_embeds=False)
    can = capabilities(inspect(path), signatures)
    assert (can.guidance, can.default_guidance, can.default_steps) == ("true_cfg_scale", 1.0, 4)


def test_kontext_edits_and_fill_only_inpaints(signatures, tmp_path):
    path = small_model(tmp_path / "m")
    edit_json(path / "model_index.json", _class_name="FluxKontextPipeline")
    assert Workflow.EDIT in capabilities(inspect(path), signatures).pipelines
    edit_json(path / "model_index.json", _class_name="FluxFillPipeline")
    assert set(capabilities(inspect(path), signatures).pipelines) == {Workflow.INPAINT}


def test_a_pipeline_of_another_diffusers_is_refused(signatures, tmp_path):
    path = small_model(tmp_path / "m")
    edit_json(path / "model_index.json", _class_name="FluxTwentyPipeline")
    with pytest.raises(ModelRefused, match="has no FluxTwentyPipeline"):
        capabilities(inspect(path), signatures)


def test_a_directory_that_lacks_a_component_is_refused(signatures, tmp_path):
    path = small_model(tmp_path / "m")
    index = json.loads((path / "model_index.json").read_text())
    del index["vae"]
    write(path / "model_index.json", index)
    with pytest.raises(ModelRefused, match="nothing that fluxctx offers"):
        capabilities(inspect(path), signatures)


def test_a_video_pipeline_is_not_offered_as_one_for_pictures(signatures, tmp_path):
    path = small_model(tmp_path / "m")
    edit_json(path / "model_index.json", _class_name="WanPipeline")
    with pytest.raises(ModelRefused):
        capabilities(inspect(path), signatures)
