"""A model directory as data: what lies in it, and why it may be refused before any library sees it.

Rules (each has a test named after it):
- only files that are read as data: safetensors, GGUF, JSON, tokenizer tables, texts and pictures for people
- no pickle under any name, no code, no special file, no symlink that leaves the directory (a Hugging Face
  cache's own blobs may be pointed at)
- model_index.json names only classes of diffusers and transformers, by their public names
- no configuration that names remote code, or that would ask for an absurd amount of memory
- every safetensors header agrees with its file
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluxctx.engine.weights import Tensor, read_header
from fluxctx.errors import ModelNotFound, ModelRefused

MAX_FILES = 4096
MAX_CONFIG_BYTES = 4 << 20
MAX_TABLE_BYTES = 256 << 20  # tokenizer.json of a large vocabulary is tens of MB
MAX_DEPTH = 40
MAX_NUMBER = 1 << 24  # larger than any layer count, width or vocabulary in use
MAX_REPEATS = 1024  # layers, blocks, heads: each is built, so a large number is a bomb
MAX_ENTRIES = 100_000

DATA_SUFFIXES = frozenset({".safetensors", ".json", ".gguf", ".model", ".txt", ".jinja"})
FOR_PEOPLE = frozenset({".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".pdf", ".sha256"})
FOR_PEOPLE_NAMES = frozenset({"LICENSE", "NOTICE", "README", "SHA256SUMS", ".gitattributes", ".gitignore"})
CODE_SUFFIXES = frozenset({".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".ipynb"})
PICKLE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5"}
)
TABLE_NAMES = frozenset({"tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json"})

# "stable_diffusion" and "ltx2" are how diffusers itself writes classes of its own pipeline folders.
ALLOWED_LIBRARIES = frozenset({"diffusers", "transformers", "stable_diffusion", "ltx2"})
PUBLIC_CLASS = re.compile(r"[A-Z][A-Za-z0-9]{2,79}")
REPEATS = re.compile(r"num_\w*(layers|blocks|heads)|layers_per_block|\bdepth\b")
# Free-form numbers that are legitimately huge: rotary bases, maximum lengths written as 1e30.
UNBOUNDED_KEYS = frozenset({"model_max_length", "rope_theta", "theta", "max_length"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDirectory:
    """A directory that passed every rule.

    `components` maps each component to (library, class); absent ones are left out.
    `configs` holds each component's config.json (or scheduler_config.json); `tensors` its weights' headers.
    """

    root: Path
    files: tuple[str, ...]  # relative, sorted
    pipeline: str
    index: Mapping[str, Any]
    components: Mapping[str, tuple[str, str]]
    configs: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, Mapping[str, Tensor]]

    def component_bytes(self) -> dict[str, int]:
        """Bytes of weights on disk by component; components without weights are left out."""
        sizes = {name: sum(t.size_bytes for t in tensors.values()) for name, tensors in self.tensors.items()}
        return {name: size for name, size in sizes.items() if size}


def inspect(root: Path) -> ModelDirectory:
    """Read a diffusers model directory and check every rule.

    Raises:
        ModelNotFound: there is no model_index.json here.
        ModelRefused: a rule is broken; the message names the rule and the file inside the model.
    """
    if not (root / "model_index.json").is_file():
        raise ModelNotFound(
            "there is no model in that directory", hint="a diffusers model directory holds a model_index.json"
        )
    root = root.resolve()
    files = tuple(sorted(_walk(root)))
    index = load_json(root / "model_index.json", MAX_CONFIG_BYTES)
    pipeline, components = _check_index(index)
    configs: dict[str, Mapping[str, Any]] = {}
    for path in files:
        if path.endswith(".json"):
            _check_json(root, path, components, configs)
    tensors: dict[str, dict[str, Tensor]] = {}
    for path in files:
        if path.endswith(".safetensors"):
            tensors.setdefault(path.split("/")[0], {}).update(read_header(root / path))
    return ModelDirectory(
        root=root,
        files=files,
        pipeline=pipeline,
        index=index,
        components=components,
        configs=configs,
        tensors=tensors,
    )


def load_json(path: Path, limit_bytes: int) -> Any:
    """Parse one JSON file of bounded size; raises ModelRefused."""
    try:
        if path.stat().st_size > limit_bytes:
            raise ModelRefused(
                f"{path.name} is too large to be what it is named", hint="fetch the model again"
            )
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ModelRefused(f"{path.name} is not JSON", hint="fetch the model again") from None


def _walk(root: Path) -> Iterator[str]:
    """Yield relative paths of all files; refuse what is not plain data inside the directory."""
    homes = [root, *_cache_blobs(root)]
    pending, seen = [root], 0
    while pending:
        for entry in pending.pop().iterdir():
            seen += 1
            if seen > MAX_FILES:
                raise ModelRefused(
                    "the model directory holds too many files", hint="point at the model itself"
                )
            target = entry.resolve()
            if not any(target.is_relative_to(home) for home in homes):
                raise ModelRefused(f"{entry.name} is a link that leaves the model directory")
            mode = target.stat().st_mode if target.exists() else 0
            if stat.S_ISDIR(mode) and not entry.is_symlink():
                pending.append(entry)
            elif stat.S_ISREG(mode):
                _check_name(entry)
                yield entry.relative_to(root).as_posix()
            else:
                raise ModelRefused(f"{entry.name} is not a plain file")


def _cache_blobs(root: Path) -> list[Path]:
    """Where a Hugging Face cache keeps the files that `models--x--y/snapshots/<revision>` points at."""
    if root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--"):
        return [root.parent.parent / "blobs"]
    return []


def _check_name(entry: Path) -> None:
    suffix = entry.suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        raise ModelRefused(
            f"{entry.name} may be a pickle, which runs code when it is loaded",
            hint="use the model's safetensors files and leave the others out",
        )
    if suffix in CODE_SUFFIXES:
        raise ModelRefused(f"{entry.name} is code, and a model is only ever read as data")
    if suffix in DATA_SUFFIXES or suffix in FOR_PEOPLE or entry.name.upper() in FOR_PEOPLE_NAMES:
        if suffix not in {".safetensors", ".gguf"} and _starts_like_pickle_or_zip(entry):
            raise ModelRefused(f"{entry.name} is a pickle or an archive under another name")
        return
    raise ModelRefused(
        f"{entry.name} is of a kind that a model directory does not need",
        hint="keep only safetensors, JSON, tokenizer and text files",
    )


def _starts_like_pickle_or_zip(entry: Path) -> bool:
    with entry.open("rb") as file:
        start = file.read(2)
    return start in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")


def _check_index(index: Any) -> tuple[str, dict[str, tuple[str, str]]]:
    """Return the pipeline's class and its components; only public classes of two libraries pass."""
    if not isinstance(index, dict):
        raise ModelRefused("model_index.json is not a table")
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str) or not PUBLIC_CLASS.fullmatch(pipeline):
        raise ModelRefused("model_index.json does not name a pipeline of diffusers")
    components: dict[str, tuple[str, str]] = {}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        if value[:2] == [None, None]:
            continue
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) or len(value) != 2:
            raise ModelRefused("model_index.json describes a component wrongly")
        library, cls = value
        if library not in ALLOWED_LIBRARIES or not isinstance(cls, str) or not PUBLIC_CLASS.fullmatch(cls):
            raise ModelRefused(
                "model_index.json names a class outside diffusers and transformers",
                hint="only models built from these two libraries' own classes are loaded",
            )
        components[name] = (library, cls)
    return pipeline, components


def _check_json(
    root: Path, path: str, components: Mapping[str, object], configs: dict[str, Mapping[str, Any]]
) -> None:
    name = path.rsplit("/", 1)[-1]
    if name in TABLE_NAMES or name.endswith(".index.json"):
        if (root / path).stat().st_size > MAX_TABLE_BYTES:
            raise ModelRefused(f"{path} is too large to be what it is named")
        return
    config = load_json(root / path, MAX_CONFIG_BYTES)
    _check_values(path, config, 0)
    component = path.split("/")[0]
    if component in components and name in (
        "config.json",
        "scheduler_config.json",
        "preprocessor_config.json",
    ):
        configs[component] = config if isinstance(config, dict) else {}


def _check_values(path: str, value: Any, depth: int) -> None:
    """Refuse what would make a library import code or ask for absurd memory."""
    if depth > MAX_DEPTH:
        raise ModelRefused(f"{path} is nested too deeply")
    if isinstance(value, dict):
        if "auto_map" in value or "custom_pipelines" in value:
            raise ModelRefused(f"{path} asks for remote code, which is never loaded")
        entries = [(str(key), entry) for key, entry in value.items()]
    elif isinstance(value, list):
        entries = [("", entry) for entry in value]
    else:
        return
    if len(entries) > MAX_ENTRIES:
        raise ModelRefused(f"{path} holds too many entries")
    for key, entry in entries:
        limit = MAX_REPEATS if REPEATS.search(key) else MAX_NUMBER
        if isinstance(entry, int | float) and key not in UNBOUNDED_KEYS and not abs(entry) <= limit:
            raise ModelRefused(f"{path} asks for an absurd size")
        _check_values(path, entry, depth + 1)
