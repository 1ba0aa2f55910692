"""Parameters of diffusers' pipelines, read from the installed source by its syntax tree.

Nothing is imported: `import diffusers` costs seconds and torch, this costs milliseconds.  Results are kept in
a JSON file named after the diffusers version where a directory for it is given and can be written.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fluxctx.errors import EngineFailed

CACHE_SCHEMA = "fluxctx.signatures/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What one pipeline class takes.

    `call` maps each parameter of `__call__` to its default (None where there is none, or where it is not a
    plain literal); `components` are the parameters of `__init__`.
    """

    call: dict[str, Any]
    components: tuple[str, ...]
    optional: tuple[str, ...] = ()  # components that may be absent


class Signatures:
    """The installed diffusers' pipelines; raises EngineFailed where it is not installed."""

    def __init__(self, *, root: Path | None = None, cache_dir: Path | None = None) -> None:
        self._root = root or installed_root()
        self._cache = cache_dir / f"signatures-{installed_version('diffusers')}.json" if cache_dir else None
        self._known: dict[str, Signature | None] = self._load_cache()

    def find(self, pipeline: str) -> Signature | None:
        """Return the signature of a pipeline class, or None if this diffusers has no such class."""
        if not pipeline.isidentifier():
            return None
        if pipeline not in self._known:
            self._known[pipeline] = self._read(pipeline)
            self._store_cache()
        return self._known[pipeline]

    def _read(self, pipeline: str) -> Signature | None:
        """Parse the class's file; `__call__` and `__init__` come from the nearest base that defines them."""
        call: dict[str, Any] | None = None
        components: tuple[str, ...] | None = None
        optional: tuple[str, ...] = ()
        for cls in self._lineage(pipeline):
            methods = {node.name: node for node in cls.body if isinstance(node, ast.FunctionDef)}
            if call is None and "__call__" in methods:
                call = dict(_parameters(methods["__call__"]))
            if components is None and "__init__" in methods:
                components = tuple(name for name, _ in _parameters(methods["__init__"]))
                optional = _optional(cls)
        return Signature(call=call, components=components or (), optional=optional) if call else None

    def _lineage(self, name: str) -> Iterator[ast.ClassDef]:
        """Yield the class and its bases, nearest first, as far as diffusers itself defines them."""
        pending, seen = [name], set[str]()
        while pending:
            wanted = pending.pop(0)
            if wanted in seen or wanted == "DiffusionPipeline":
                continue
            seen.add(wanted)
            cls = self._class(wanted)
            if cls is not None:
                yield cls
                pending += [
                    base.id for base in cls.bases if isinstance(base, ast.Name) and "Pipeline" in base.id
                ]

    def _class(self, name: str) -> ast.ClassDef | None:
        pattern = re.compile(rb"^class " + re.escape(name.encode()) + rb"\b", re.MULTILINE)
        for path in sorted(
            (self._root / "pipelines").rglob("pipeline_*.py"), key=lambda p: _distance(p, name)
        ):
            source = path.read_bytes()
            if pattern.search(source):
                for node in ast.parse(source).body:
                    if isinstance(node, ast.ClassDef) and node.name == name:
                        return node
        return None

    def _load_cache(self) -> dict[str, Signature | None]:
        """A missing, old or damaged cache is an empty one."""
        if self._cache is None:
            return {}
        try:
            stored = json.loads(self._cache.read_bytes())
            if stored["schema"] != CACHE_SCHEMA:
                return {}
            return {
                name: None
                if row is None
                else Signature(
                    call=row["call"], components=tuple(row["components"]), optional=tuple(row["optional"])
                )
                for name, row in stored["pipelines"].items()
            }
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _store_cache(self) -> None:
        """Best effort: a read-only place only means that the next start reads the source again."""
        if self._cache is None:
            return
        rows = {
            name: known
            and {"call": known.call, "components": list(known.components), "optional": list(known.optional)}
            for name, known in sorted(self._known.items())
        }
        part = self._cache.with_suffix(".part")
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"schema": CACHE_SCHEMA, "pipelines": rows}))
            part.replace(self._cache)
        except OSError:
            return


def installed_root() -> Path:
    """Where diffusers is installed, without importing it; raises EngineFailed."""
    spec = find_spec("diffusers")
    if spec is None or spec.origin is None:
        raise EngineFailed("diffusers is not installed", hint="install fluxctx with its dependencies again")
    return Path(spec.origin).parent


def installed_version(package: str) -> str:
    """Version of an installed package, or "absent"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _parameters(function: ast.FunctionDef) -> Iterator[tuple[str, Any]]:
    """Yield (name, literal default or None) of all named parameters but self."""
    spec = function.args
    named = [*spec.posonlyargs, *spec.args]
    defaults: list[ast.expr | None] = [None] * (len(named) - len(spec.defaults)) + list(spec.defaults)
    for argument, default in [
        *zip(named, defaults, strict=True),
        *zip(spec.kwonlyargs, spec.kw_defaults, strict=True),
    ]:
        if argument.arg != "self":
            yield argument.arg, _literal(default)


def _literal(node: ast.expr | None) -> Any:
    """Value of a plain literal, 1024**2 included; None for anything else."""
    if node is None:
        return None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.Mult):
        left, right = _literal(node.left), _literal(node.right)
        if isinstance(left, int) and isinstance(right, int) and abs(left) <= 4096 and 0 <= right <= 4096:
            return left * right if isinstance(node.op, ast.Mult) else left ** min(right, 8)
        return None
    try:
        value = ast.literal_eval(node)
        json.dumps(value)
    except (ValueError, TypeError):
        return None
    return value


def _optional(cls: ast.ClassDef) -> tuple[str, ...]:
    for node in cls.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "_optional_components" for t in node.targets
        ):
            return tuple(_literal(node.value) or ())
    return ()


def _distance(path: Path, name: str) -> tuple[bool, int, str]:
    """Sort key: files whose folder and name resemble the class's come first, which finds most in one read."""
    words = [word.lower() for word in re.findall(r"[A-Z][a-z0-9]*", name)]
    text = path.stem
    first = "pipeline_" + "".join(words[:1])
    return (not text.startswith(first), sum(word not in text for word in words), text)
