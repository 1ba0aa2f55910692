"""Hostile model directories: each breaks one rule of fluxctx/engine/modeldir.py and is refused."""

import json
import os
import pickle

import pytest

from fluxctx.engine.modeldir import inspect
from fluxctx.errors import ModelNotFound, ModelRefused
from tests.engine.models import STARTER, edit_json, safetensors, small_model, write


@pytest.fixture
def model(tmp_path):
    return small_model(tmp_path / "model")


def test_the_starter_passes_every_rule():
    found = inspect(STARTER / "model")
    assert found.pipeline == "FluxPipeline"
    assert set(found.component_bytes()) == {"text_encoder", "text_encoder_2", "transformer", "vae"}
    assert found.components["tokenizer_2"] == ("transformers", "T5Tokenizer")


def test_a_small_directory_passes_so_that_every_refusal_below_is_of_what_was_changed(model):
    assert inspect(model).components["transformer"] == ("diffusers", "FluxTransformer2DModel")


def test_a_directory_without_an_index_is_not_a_model(tmp_path):
    with pytest.raises(ModelNotFound):
        inspect(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "x.pkl", "x.PTH", "x.npz"])
def test_a_pickle_is_refused_by_its_name(model, name):
    (model / "transformer" / name).write_bytes(b"")
    with pytest.raises(ModelRefused, match="pickle"):
        inspect(model)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["notes.txt", "merges.txt", "spiece.model", "README.md"])
def test_a_pickle_under_another_name_is_refused_by_its_first_bytes(model, name, protocol):
    (model / name).write_bytes(pickle.dumps({"a": 1}, protocol=protocol))
    with pytest.raises(ModelRefused, match="another name"):
        inspect(model)


def test_a_zipped_pickle_under_another_name_is_refused(model):
    (model / "extra.txt").write_bytes(b"PK\x03\x04 archive/data.pkl")
    with pytest.raises(ModelRefused, match="another name"):
        inspect(model)


@pytest.mark.parametrize("name", ["pipeline.py", "modeling.pyc", "kernel.so", "setup.sh"])
def test_code_is_refused(model, name):
    (model / name).write_text("print()")
    with pytest.raises(ModelRefused, match="is code"):
        inspect(model)


def test_an_unknown_kind_of_file_is_refused(model):
    (model / "model.onnx").write_bytes(b"x")
    with pytest.raises(ModelRefused, match="does not need"):
        inspect(model)


@pytest.mark.parametrize(
    "component",
    [
        ["os", "system"],
        ["os", "System"],
        ["subprocess", "Popen"],
        ["diffusers", "_private"],
        ["diffusers", "load_image"],
        ["diffusers.utils.remote_utils", "Decoder"],
        ["transformers", "A" * 100],
        ["transformers", 3],
        ["my_module", "MyTransformer"],
        ["diffusers"],
        ["diffusers", "AutoencoderKL", "more"],
    ],
)
def test_a_class_outside_the_two_libraries_public_names_is_refused(model, component):
    edit_json(model / "model_index.json", vae=component)
    with pytest.raises(ModelRefused):
        inspect(model)


@pytest.mark.parametrize("name", [["pipeline", "Mine"], "../evil", "os.system", "", None, 3])
def test_a_pipeline_of_ones_own_is_refused(model, name):
    edit_json(model / "model_index.json", _class_name=name)
    with pytest.raises(ModelRefused, match="does not name a pipeline"):
        inspect(model)


def test_a_component_name_that_is_a_path_is_refused(model):
    edit_json(model / "model_index.json", **{"../../etc": ["diffusers", "AutoencoderKL"]})
    with pytest.raises(ModelRefused):
        inspect(model)


def test_a_configuration_that_names_remote_code_is_refused(model):
    edit_json(model / "text_encoder" / "config.json", auto_map={"AutoModel": "modeling.Evil"})
    with pytest.raises(ModelRefused, match="remote code"):
        inspect(model)


def test_a_symlink_that_leaves_the_directory_is_refused(model, tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    (model / "vae" / "extra.json").symlink_to(outside)
    with pytest.raises(ModelRefused, match="leaves the model"):
        inspect(model)


def test_a_symlinked_directory_that_leaves_is_refused(model):
    (model / "etc").symlink_to("/etc")
    with pytest.raises(ModelRefused, match="leaves the model"):
        inspect(model)


def test_a_symlink_loop_ends(model):
    (model / "loop").symlink_to(model)
    with pytest.raises(ModelRefused, match="not a plain file"):
        inspect(model)


def test_a_fifo_is_refused_without_being_opened(model):
    os.mkfifo(model / "vae" / "weights.safetensors")
    with pytest.raises(ModelRefused, match="not a plain file"):
        inspect(model)


def test_a_hugging_face_cache_may_point_at_its_own_blobs(tmp_path):
    repository = tmp_path / "models--acme--tiny"
    snapshot = small_model(repository / "snapshots" / "abc")
    blobs = repository / "blobs"
    blobs.mkdir()
    weights = snapshot / "vae" / "model.safetensors"
    weights.rename(blobs / "1234")
    weights.symlink_to("../../../blobs/1234")
    assert "vae/model.safetensors" in inspect(snapshot).files


@pytest.mark.parametrize(
    "bomb",
    [
        {"num_layers": 10**6},
        {"num_attention_heads": -(10**6)},
        {"hidden_size": 2**40},
        {"sample_size": float("inf")},
        {"scaling": float("nan")},
        {"nested": {"num_hidden_layers": 5000}},
        {"channels": [1, 2**40]},
        {"many": list(range(200_000))},
    ],
    ids=lambda bomb: next(iter(bomb)),
)
def test_a_configuration_that_asks_for_absurd_memory_is_refused(model, bomb):
    edit_json(model / "transformer" / "config.json", **bomb)
    with pytest.raises(ModelRefused, match=r"absurd|too many"):
        inspect(model)


def test_a_deeply_nested_configuration_is_refused(model):
    (model / "transformer" / "config.json").write_text('{"a":' * 100 + "1" + "}" * 100)
    with pytest.raises(ModelRefused, match="nested"):
        inspect(model)
    (model / "transformer" / "config.json").write_text("[" * 500_000)
    with pytest.raises(ModelRefused, match="not JSON"):
        inspect(model)


def test_a_huge_configuration_file_is_refused_unread(model):
    with (model / "vae" / "config.json").open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(ModelRefused, match="too large"):
        inspect(model)


def test_too_many_files_are_refused(model):
    for number in range(4100):
        (model / "vae" / f"{number}.txt").touch()
    with pytest.raises(ModelRefused, match="too many files"):
        inspect(model)


def test_an_index_that_is_no_table_is_refused(model):
    write(model / "model_index.json", ["FluxPipeline"])
    with pytest.raises(ModelRefused):
        inspect(model)


def test_a_damaged_weights_file_is_refused(model):
    (model / "vae" / "model.safetensors").write_bytes(safetensors({"w": ("F32", [2], bytes(8))})[:-1])
    with pytest.raises(ModelRefused, match="shorter or longer"):
        inspect(model)


def test_a_refusal_never_says_where_the_model_lies(model, tmp_path):
    (model / "evil.py").touch()
    with pytest.raises(ModelRefused) as refused:
        inspect(model)
    assert str(tmp_path) not in json.dumps([refused.value.message, refused.value.hint])
