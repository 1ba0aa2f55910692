"""Read the packaged policy: taxonomy, rules and lexicon, each checked against the manifest before it is parsed."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from fluxctx.domain import Action
from fluxctx.errors import PolicyDamaged
from fluxctx.policy.rules import Lexicon, Rule

FILES = ("taxonomy.toml", "rules.toml", "classes.toml", "neighbours.txt")
ANYWHERE = 1_000_000
HINT = "reinstall fluxctx; until then nothing is generated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One row of the taxonomy: severity 0 to 4 and what each profile does."""

    id: str
    severity: int
    locked: bool
    action: Mapping[str, Action]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A policy, ready to judge; `digest` is the SHA-256 of its manifest."""

    id: str
    revision: int
    digest: str
    categories: Mapping[str, Category]
    rules: tuple[Rule, ...]
    lexicon: Lexicon

    @property
    def locked(self) -> list[Category]:
        return [category for category in self.categories.values() if category.locked]


@cache
def load_packaged() -> Bundle:
    """The policy that came with the package; raises PolicyDamaged."""
    return load(files("fluxctx.policy") / "lexicon")


def load(folder: Traversable) -> Bundle:
    """Check every file against the manifest, then build the bundle; raises PolicyDamaged."""
    try:
        manifest = (folder / "MANIFEST.json").read_bytes()
        listed = json.loads(manifest)["files"]
        contents = {name: (folder / name).read_bytes() for name in FILES}
        if set(listed) != set(FILES):
            raise PolicyDamaged("the policy's manifest is not the one it needs", hint=HINT)
        for name, content in contents.items():
            if hashlib.sha256(content).hexdigest() != listed[name]:
                raise PolicyDamaged("a file of the policy was altered", hint=HINT)
        return _build(contents, hashlib.sha256(manifest).hexdigest())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PolicyDamaged("the policy is missing or cannot be read", hint=HINT) from error


def _build(contents: Mapping[str, bytes], digest: str) -> Bundle:
    taxonomy, rules, classes = (tomllib.loads(contents[name].decode()) for name in FILES[:3])
    categories = {row["id"]: _category(row) for row in taxonomy["category"]}
    allow = classes.pop("allow")
    neighbours = frozenset(contents["neighbours.txt"].decode().split())
    return Bundle(
        id=taxonomy["id"],
        revision=taxonomy["revision"],
        digest=digest,
        categories=categories,
        rules=tuple(_rule(row, categories, classes) for row in rules["rule"]),
        lexicon=Lexicon(classes, allow, neighbours),
    )


def _category(row: Mapping[str, Any]) -> Category:
    action = {profile: Action(value) for profile, value in row["action"].items()}
    if row["locked"] and set(action.values()) != {Action.BLOCK}:
        raise ValueError("a locked category blocks in every profile")
    return Category(id=row["id"], severity=row["severity"], locked=row["locked"], action=action)


def _rule(row: Mapping[str, Any], categories: Mapping[str, Category], classes: Mapping[str, Any]) -> Rule:
    unless = tuple(row.get("unless", ()))
    locked = categories[row["category"]].locked
    if locked and unless:
        raise ValueError("a locked rule has no exception")
    if missing := {*row["all_of"], *unless} - set(classes):
        raise ValueError(f"no such word class: {sorted(missing)}")
    return Rule(
        id=row["id"],
        category=row["category"],
        all_of=tuple(row["all_of"]),
        window=row.get("window", ANYWHERE),
        locked=locked,
        unless=unless,
    )
