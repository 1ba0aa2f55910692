"""The catalog: what is installed, unaltered, under a licence that was accepted."""

import json
import os
import shutil
import stat

import pytest

from fluxctx.domain import Size, Workflow
from fluxctx.engine import digests
from fluxctx.engine.catalog import as_json, from_json
from fluxctx.errors import InvalidRequest, ModelAltered, ModelNotFound, ModelRefused
from tests.engine.models import STARTER, catalog, edit_json, small_model


@pytest.fixture
def models(tmp_path):
    return catalog(tmp_path / "models")


def added(models, tmp_path, **changes):
    path = small_model(tmp_path / "tiny")
    return models.add(path, **{"name": "tiny", "licence_accepted": True, **changes})


def test_the_starter_is_there_without_any_registry(models):
    starter = models.find("starter")
    assert starter.embedded
    assert starter.native_sizes == (Size(width_px=64, height_px=64),)
    assert set(starter.workflows) == {
        Workflow.TEXT_TO_IMAGE,
        Workflow.EDIT,
        Workflow.IMAGE_TO_IMAGE,
        Workflow.INPAINT,
    }
    assert models.find("default") == starter


def test_the_shipped_digests_are_those_of_the_shipped_files(models):
    entry = models.entry("starter")
    assert models.verify("starter") == entry.model
    sums = (STARTER / "SHA256SUMS").read_text()
    assert sums == "".join(f"{r.sha256}  model/{r.path}\n" for r in sorted(entry.files, key=lambda r: r.path))


def test_the_shipped_entry_says_what_an_examination_finds(models):
    entry, found = models.entry("starter"), models.examine(STARTER / "model")
    assert {r.path for r in entry.files} == set(found.directory.files)
    assert entry.model.size_bytes == found.size_bytes
    assert entry.model.size_multiple == found.capabilities.size_multiple
    assert entry.guidance == found.capabilities.guidance
    for workflow, pipeline in found.capabilities.pipelines.items():
        assert entry.pipelines[workflow] == pipeline


def test_an_added_model_is_found_by_name_and_alias(models, tmp_path):
    model = added(models, tmp_path, aliases=("t",))
    assert models.find("tiny") == models.find("t") == model
    assert [entry.model.name for entry in models.installed()] == ["starter", "tiny"]


def test_an_unknown_name_is_not_found(models):
    for name in ("nothing", "../starter", "", "a" * 1000, "\0"):
        with pytest.raises(ModelNotFound):
            models.find(name)


def test_a_licence_that_was_not_accepted_installs_nothing(models, tmp_path):
    with pytest.raises(InvalidRequest, match="licence"):
        added(models, tmp_path, licence_accepted=False)
    assert len(models.installed()) == 1


def test_the_licence_is_read_from_the_models_card(models, tmp_path):
    path = small_model(tmp_path / "m")
    (path / "README.md").write_text(
        "---\nlicense: other\nlicense_name: flux-1-dev-non-commercial-license\n---\n# m\n"
    )
    (path / "LICENSE").write_text("FLUX.1 [dev] Non-Commercial License\n")
    licence = models.examine(path).licence
    assert licence.name == "flux-1-dev-non-commercial-license"
    assert licence.requires_filter
    assert "Non-Commercial" in licence.text


def test_a_model_without_a_licence_says_unknown(models, tmp_path):
    licence = models.examine(small_model(tmp_path / "m")).licence
    assert (licence.name, licence.requires_filter) == ("unknown", False)


@pytest.mark.parametrize("name", ["starter", "default", "Tiny", "../up", "", "a/b", ".hidden"])
def test_a_taken_or_malformed_name_is_refused(models, tmp_path, name):
    with pytest.raises(InvalidRequest):
        added(models, tmp_path, name=name)


def test_the_registry_file_is_its_owners_alone(models, tmp_path):
    added(models, tmp_path)
    mode = (tmp_path / "models" / "tiny.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_the_registry_file_reads_back_as_it_was_written(models, tmp_path):
    added(models, tmp_path)
    entry = models.entry("tiny")
    assert from_json(json.loads(json.dumps(as_json(entry))), tmp_path) == entry


def test_a_referenced_model_is_neither_copied_nor_removed(models, tmp_path):
    added(models, tmp_path)
    assert not (tmp_path / "models" / "tiny").exists()
    models.remove("tiny")
    assert (tmp_path / "tiny" / "model_index.json").exists()
    with pytest.raises(ModelNotFound):
        models.find("tiny")


def test_a_copied_model_outlives_its_source_and_dies_when_removed(models, tmp_path):
    added(models, tmp_path, copy=True)
    shutil.rmtree(tmp_path / "tiny")
    assert models.verify("tiny").name == "tiny"
    models.remove("tiny")
    assert list((tmp_path / "models").iterdir()) == []


def test_the_starter_cannot_be_removed(models):
    with pytest.raises(InvalidRequest):
        models.remove("starter")


def test_one_flipped_byte_in_the_starter_is_found_on_every_load(tmp_path):
    shutil.copytree(STARTER, tmp_path / "starter")
    weights = tmp_path / "starter" / "model" / "vae" / "diffusion_pytorch_model.safetensors"
    flip(weights, -1)
    with pytest.raises(ModelAltered) as altered:
        catalog(tmp_path / "models", tmp_path / "starter").verify("starter", full=False)
    assert altered.value.details["files"] == ["vae/diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize("full", [True, False])
def test_one_flipped_byte_in_an_added_model_is_found(models, tmp_path, full):
    added(models, tmp_path)
    flip(tmp_path / "tiny" / "vae" / "model.safetensors", -1)
    with pytest.raises(ModelAltered):
        models.verify("tiny", full=full)


@pytest.mark.parametrize("name", ["model_index.json", "vae/config.json", "tokenizer/tokenizer.json"])
def test_an_altered_configuration_is_found_at_a_glance(models, tmp_path, name):
    added(models, tmp_path)
    (tmp_path / "tiny" / name).write_text('{"other": 1}')
    with pytest.raises(ModelAltered):
        models.verify("tiny", full=False)


def test_a_missing_file_is_an_alteration(models, tmp_path):
    added(models, tmp_path)
    (tmp_path / "tiny" / "vae" / "model.safetensors").unlink()
    for full in (True, False):
        with pytest.raises(ModelAltered):
            models.verify("tiny", full=full)


def test_a_large_file_touched_since_is_an_alteration_and_one_hidden_behind_its_time_needs_strict(tmp_path):
    from tests.engine.models import safetensors

    weights = tmp_path / "w.safetensors"
    weights.write_bytes(safetensors({"w": ("U8", [2 << 20], bytes(2 << 20))}))
    records = digests.record_files(tmp_path, ["w.safetensors"])
    status = weights.stat()
    flip(weights, -1)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert digests.altered_at_a_glance(tmp_path, records) == ["w.safetensors"]
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests.altered_at_a_glance(tmp_path, records) == []
    assert digests.altered_fully(tmp_path, records) == ["w.safetensors"]


def test_a_digest_in_the_registry_that_was_changed_is_found(models, tmp_path):
    added(models, tmp_path)
    edit_json(tmp_path / "models" / "tiny.json", sha256="0" * 64)
    with pytest.raises(ModelAltered):
        models.verify("tiny", full=False)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema": "fluxctx.model/2"}', "\xff"])
def test_a_damaged_registry_file_is_reported_as_such(models, tmp_path, content):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.json").write_text(content)
    with pytest.raises(ModelAltered):
        models.find("bad")


def test_a_refused_directory_leaves_no_trace_in_the_registry(models, tmp_path):
    path = small_model(tmp_path / "m")
    (path / "vae" / "weights.bin").touch()
    with pytest.raises(ModelRefused):
        models.add(path, name="m", licence_accepted=True, copy=True)
    assert not (tmp_path / "models").exists()


def test_the_catalog_reads_without_writing_and_without_torch(models):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; import tests.engine.models as m\n"
        "c = m.catalog(Path('/nonexistent')); c.verify('starter'); c.examine(m.STARTER / 'model')\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
