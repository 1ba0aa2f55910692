"""Installed models: the embedded starter and whatever `models add` registered.

One JSON file a model in the registry directory, with every file's SHA-256.  The embedded starter has the same
file inside the package.  Reading only: torch is never imported and no weight is ever unpickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fluxctx.domain import InstalledModel, Size, Workflow
from fluxctx.engine import digests
from fluxctx.engine.capabilities import Capabilities, capabilities
from fluxctx.engine.licences import Licence, find_licence
from fluxctx.engine.modeldir import ModelDirectory, inspect
from fluxctx.engine.signatures import Signatures
from fluxctx.errors import InvalidRequest, ModelAltered, ModelNotFound

SCHEMA = "fluxctx.model/1"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
STARTER = "starter"
MAX_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One registered model and what only the engine needs to know of it.

    `pipelines` names the class for each workflow; `guidance` the argument that `guidance` becomes;
    `elements` counts each component's numbers, for placement; `word_list` is a tokenizer file whose whole
    words are all the model knows (a path inside the model), or None.
    """

    model: InstalledModel
    aliases: tuple[str, ...]
    pipelines: Mapping[Workflow, str]
    guidance: str
    elements: Mapping[str, int]
    files: tuple[digests.FileRecord, ...]
    lower_case: bool = False
    word_list: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A directory that may be added: what a person is shown before they agree."""

    directory: ModelDirectory
    capabilities: Capabilities
    licence: Licence
    size_bytes: int


class Catalog:
    """The registry in `models_dir` and the starter in `starter_dir`; neither needs to be writable to read."""

    def __init__(self, models_dir: Path, *, starter_dir: Path, signatures: Signatures) -> None:
        self._models_dir = models_dir
        self._starter_dir = starter_dir
        self._signatures = signatures

    def find(self, name: str) -> InstalledModel:
        """Look a model up by name or alias; raises ModelNotFound."""
        return self.entry(name).model

    def entry(self, name: str) -> Entry:
        """The same with what the engine needs; raises ModelNotFound, ModelAltered (damaged registry file)."""
        if name in (STARTER, "default"):
            return self._load(self._starter_dir / "model.json")
        if NAME.fullmatch(name) and (path := self._models_dir / f"{name}.json").is_file():
            return self._load(path)
        for entry in self.installed():
            if name in entry.aliases:
                return entry
        raise ModelNotFound(
            "no installed model has that name",
            hint="`fluxctx models list` names them; `fluxctx models add` installs",
        )

    def installed(self) -> list[Entry]:
        """Every installed model, the starter first, then by name."""
        paths = sorted(self._models_dir.glob("*.json")) if self._models_dir.is_dir() else []
        return [self._load(self._starter_dir / "model.json"), *(self._load(path) for path in paths)]

    def examine(self, path: Path) -> Examined:
        """Check a directory and say what it is, its licence included; raises ModelNotFound, ModelRefused."""
        directory = inspect(path)
        size_bytes = sum((directory.root / file).stat().st_size for file in directory.files)
        return Examined(
            directory=directory,
            capabilities=capabilities(directory, self._signatures),
            licence=find_licence(directory.root),
            size_bytes=size_bytes,
        )

    def add(
        self,
        path: Path,
        *,
        name: str,
        licence_accepted: bool,
        copy: bool = False,
        aliases: tuple[str, ...] = (),
    ) -> InstalledModel:
        """Register a directory where it lies, or a copy of it, and hash every file of it.

        Raises:
            InvalidRequest: the name is taken or malformed, or the licence was not accepted.
            ModelNotFound, ModelRefused: as `examine`.
        """
        self._check_names(name, aliases)
        examined = self.examine(path)
        if not licence_accepted:
            raise InvalidRequest(
                "the model's licence has not been accepted", hint="read it, then say --accept-licence"
            )
        root = self._copy(examined.directory, name) if copy else examined.directory.root
        records = tuple(digests.record_files(root, examined.directory.files))
        entry = describe(examined, name=name, root=root, records=records, aliases=aliases)
        _write_json(self._models_dir / f"{name}.json", as_json(entry))
        return entry.model

    def verify(self, name: str, *, full: bool = True) -> InstalledModel:
        """Compare the files with what was recorded; raises ModelAltered, ModelNotFound.

        `full` hashes every byte; otherwise size, modification time and header are compared, and small files
        and the embedded starter are hashed all the same.
        """
        entry = self.entry(name)
        root = Path(entry.model.directory)
        check = digests.altered_fully if full or entry.model.embedded else digests.altered_at_a_glance
        altered = check(root, entry.files)
        if altered or digests.tree_sha256(entry.files) != entry.model.sha256:
            raise ModelAltered(
                f"files of the model {entry.model.name} differ from when it was added",
                hint=f"`fluxctx models verify {entry.model.name}` lists them; was it you? then add it again",
                details={"files": altered},
            )
        return entry.model

    def remove(self, name: str) -> None:
        """Forget a model and delete its copy, if fluxctx made one; raises ModelNotFound, InvalidRequest."""
        entry = self.entry(name)
        if entry.model.embedded:
            raise InvalidRequest("the starter model is part of fluxctx and cannot be removed")
        (self._models_dir / f"{entry.model.name}.json").unlink()
        if Path(entry.model.directory) == self._models_dir / entry.model.name:
            shutil.rmtree(entry.model.directory)

    def _check_names(self, name: str, aliases: tuple[str, ...]) -> None:
        taken = {known for entry in self.installed() for known in (entry.model.name, *entry.aliases)} | {
            "default"
        }
        for wanted in (name, *aliases):
            if not NAME.fullmatch(wanted):
                raise InvalidRequest(
                    "a model's name is made of lower-case letters, digits, dots, dashes and underscores"
                )
            if wanted in taken:
                raise InvalidRequest("a model of that name is installed", hint="choose another --name")

    def _copy(self, directory: ModelDirectory, name: str) -> Path:
        root = self._models_dir / name
        if root.exists():
            raise InvalidRequest("a copy of that name is there already", hint="choose another --name")
        for file in directory.files:
            target = root / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory.root / file, target)
        return root

    def _load(self, path: Path) -> Entry:
        try:
            return from_json(json.loads(path.read_bytes()), path.parent)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ModelAltered(
                f"the registry file {path.name} is damaged", hint="`fluxctx models add` the model again"
            ) from None


def describe(
    examined: Examined,
    *,
    name: str,
    root: Path,
    records: tuple[digests.FileRecord, ...],
    aliases: tuple[str, ...] = (),
) -> Entry:
    """Turn what was found in a directory into a catalog entry."""
    can = examined.capabilities
    model = InstalledModel(
        name=name,
        directory=str(root),
        pipeline=examined.directory.pipeline,
        workflows=tuple(can.pipelines),
        licence=examined.licence.name,
        sha256=digests.tree_sha256(records),
        size_bytes=sum(record.size_bytes for record in records),
        requires_filter=examined.licence.requires_filter,
        native_sizes=(),
        size_multiple=can.size_multiple,
        default_size=can.default_size,
        default_steps=can.default_steps,
        max_steps=MAX_STEPS,
        default_guidance=can.default_guidance,
        max_prompt_tokens=can.max_prompt_tokens,
    )
    tensors = examined.directory.tensors
    return Entry(
        model=model,
        aliases=aliases,
        pipelines=can.pipelines,
        guidance=can.guidance,
        elements={part: sum(t.elements for t in table.values()) for part, table in tensors.items()},
        files=records,
    )


PLAIN_FIELDS = (
    "name", "directory", "pipeline", "licence", "sha256", "size_bytes", "requires_filter", "size_multiple",
    "default_steps", "max_steps", "default_guidance", "default_dtype", "max_prompt_tokens", "enlarge_to",
    "embedded",
)  # fmt: skip


def as_json(entry: Entry) -> dict[str, Any]:
    """The registry file's content."""
    model = entry.model
    return {
        "schema": SCHEMA,
        **{field: getattr(model, field) for field in PLAIN_FIELDS},
        "native_sizes": [str(size) for size in model.native_sizes],
        "default_size": str(model.default_size),
        "aliases": list(entry.aliases),
        "pipelines": {str(workflow): name for workflow, name in entry.pipelines.items()},
        "guidance": entry.guidance,
        "elements": dict(entry.elements),
        "prompt": {"lower_case": entry.lower_case, "word_list": entry.word_list},
        "files": digests.as_json(entry.files),
    }


def from_json(stored: Mapping[str, Any], beside: Path) -> Entry:
    """Read a registry file; a relative directory is meant from `beside`.

    Raises KeyError, TypeError, ValueError.
    """
    if stored["schema"] != SCHEMA:
        raise ValueError("a registry file of another version")
    pipelines = {Workflow(workflow): str(name) for workflow, name in stored["pipelines"].items()}
    model = InstalledModel(
        **{field: stored[field] for field in PLAIN_FIELDS},
        workflows=tuple(pipelines),
        native_sizes=tuple(parse_size(text) for text in stored["native_sizes"]),
        default_size=parse_size(stored["default_size"]),
    )
    return Entry(
        model=replace(model, directory=str((beside / model.directory).resolve())),
        aliases=tuple(stored["aliases"]),
        pipelines=pipelines,
        guidance=str(stored["guidance"]),
        elements={str(part): int(count) for part, count in stored["elements"].items()},
        files=digests.from_json(stored["files"]),
        lower_case=bool(stored["prompt"]["lower_case"]),
        word_list=stored["prompt"]["word_list"],
    )


def parse_size(text: str) -> Size:
    """Read "WxH"; raises ValueError."""
    width, height = text.split("x")
    return Size(width_px=int(width), height_px=int(height))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write whole or not at all, readable by the owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
