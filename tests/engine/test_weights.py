"""Safetensors headers: what agrees with its file is read, everything else is refused first."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxctx.engine.weights import read_header
from fluxctx.errors import ModelRefused
from tests.engine.models import STARTER, safetensors, with_header


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    return path


def test_the_starters_headers_agree_with_the_library_that_wrote_them():
    from safetensors import safe_open

    path = STARTER / "model" / "vae" / "diffusion_pytorch_model.safetensors"
    ours = read_header(path)
    with safe_open(path, framework="np") as theirs:
        assert set(ours) == set(theirs.keys())
        assert all(tuple(theirs.get_slice(name).get_shape()) == tensor.shape for name, tensor in ours.items())
    assert sum(tensor.size_bytes for tensor in ours.values()) < path.stat().st_size


def test_a_truncated_file_is_refused(tmp_path):
    whole = safetensors({"w": ("F32", [4], bytes(16))})
    for length in range(len(whole)):
        with pytest.raises(ModelRefused):
            read_header(written(tmp_path, whole[:length]))


def test_a_header_that_claims_100_gigabytes_is_refused_without_reading_them(tmp_path):
    with pytest.raises(ModelRefused, match="claims more bytes"):
        read_header(written(tmp_path, with_header(b"{}", claimed=100 << 30)))


def test_a_tensor_that_claims_100_gigabytes_is_refused(tmp_path):
    header = {"w": {"dtype": "F32", "shape": [25 << 30], "data_offsets": [0, 100 << 30]}}
    with pytest.raises(ModelRefused, match="shorter or longer"):
        read_header(written(tmp_path, with_header(json.dumps(header).encode(), bytes(8))))


def test_appended_bytes_are_refused(tmp_path):
    with pytest.raises(ModelRefused, match="shorter or longer"):
        read_header(written(tmp_path, safetensors({"w": ("F32", [1], bytes(4))}) + b"x"))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},  # a gap
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1]},
        {"dtype": "F32", "shape": [1] * 17, "data_offsets": [0, 4]},
        "nothing",
        None,
    ],
)
def test_a_tensor_that_is_described_wrongly_is_refused(tmp_path, entry):
    with pytest.raises(ModelRefused):
        read_header(written(tmp_path, with_header(json.dumps({"w": entry}).encode(), bytes(4))))


def test_overlapping_tensors_are_refused(tmp_path):
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    with pytest.raises(ModelRefused, match="overlap"):
        read_header(written(tmp_path, with_header(json.dumps({"a": one, "b": one}).encode(), bytes(4))))


def test_a_name_that_occurs_twice_is_refused(tmp_path):
    entry = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    with pytest.raises(ModelRefused, match="not JSON"):
        read_header(written(tmp_path, with_header(f'{{"a": {entry}, "a": {entry}}}'.encode(), bytes(4))))


def test_deep_nesting_is_refused_and_does_not_end_the_process(tmp_path):
    with pytest.raises(ModelRefused):
        read_header(written(tmp_path, with_header(b"[" * 1_000_000)))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 220))
def test_no_bytes_make_it_raise_anything_but_a_refusal(tmp_path_factory, content, claimed):
    path = tmp_path_factory.mktemp("fuzz") / "w.safetensors"
    path.write_bytes(struct.pack("<Q", claimed) + content)
    try:
        read_header(path)
    except ModelRefused:
        pass
