"""Safetensors headers, read with struct and json alone: no weight is touched and no library is trusted.

Layout (huggingface/safetensors README): 8 bytes little-endian header length N, N bytes of JSON
`{"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...}`, then the tensors' bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from fluxctx.errors import ModelRefused

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_TENSORS = 200_000
ITEM_BYTES: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4,
    "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One entry of a header: dtype by the format's name, shape, and its bytes on disk."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


def read_header(path: Path) -> dict[str, Tensor]:
    """Read and check one file's header: every byte of the data section belongs to exactly one tensor.

    Raises:
        ModelRefused: truncated, oversized, overlapping, or not this format.
    """
    raw, data_bytes = raw_header(path)
    try:
        entries = json.loads(raw, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        raise refused(path, "its header is not JSON") from None
    if not isinstance(entries, dict) or len(entries) > MAX_TENSORS:
        raise refused(path, "its header is not a table of tensors")
    entries.pop("__metadata__", None)
    spans: list[tuple[int, int]] = []
    tensors = {str(name): _tensor(path, entry, spans) for name, entry in entries.items()}
    spans.sort()
    expected = 0
    for begin, end in spans:
        if begin != expected:
            raise refused(path, "its tensors overlap or leave gaps")
        expected = end
    if expected != data_bytes:
        raise refused(path, "it is shorter or longer than its header says")
    return tensors


def raw_header(path: Path) -> tuple[bytes, int]:
    """Return the header's bytes and how many bytes of data follow; raises ModelRefused."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = file.read(8)
        if len(length) < 8:
            raise refused(path, "it is too short for a header")
        (header_bytes,) = struct.unpack("<Q", length)
        if header_bytes > min(MAX_HEADER_BYTES, size_bytes - 8):
            raise refused(path, "its header claims more bytes than the file or the format allows")
        return file.read(header_bytes), size_bytes - 8 - header_bytes


def refused(path: Path, why: str) -> ModelRefused:
    """Name the file inside the model, never where the model lies."""
    return ModelRefused(
        f"the weights file {path.name} is damaged or hostile: {why}", hint="fetch the model again"
    )


def _tensor(path: Path, entry: Any, spans: list[tuple[int, int]]) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
        if any(type(number) is not int or not 0 <= number < 2**48 for number in numbers) or len(shape) > 16:
            raise refused(path, "a tensor has an impossible shape or place")
        bytes_each = ITEM_BYTES[dtype]
    except (TypeError, KeyError, ValueError):
        raise refused(path, "a tensor is described wrongly") from None
    if end - begin != prod(shape) * bytes_each:
        raise refused(path, "a tensor's shape and its bytes do not agree")
    spans.append((begin, end))
    return Tensor(dtype=dtype, shape=tuple(shape), size_bytes=end - begin)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table
