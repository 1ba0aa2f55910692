"""`--kind`, `--before`, `--tag` and `--model`: which items `list`, `export` and `purge` mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluxctx.domain import Item, ItemId, ItemKind
from fluxctx.errors import InvalidRequest

if TYPE_CHECKING:
    from fluxctx.runtime import Runtime

Kinds = Annotated[list[str] | None, typer.Option("--kind", help="image, video or upload; repeatable.")]
Before = Annotated[str | None, typer.Option(help="Made before this date.", metavar="YYYY-MM-DD")]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Only with this tag; repeatable: all of them.", metavar="KEY[=VALUE]"),
]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="Made by this model; repeatable.", metavar="NAME")
]


@dataclass(frozen=True)
class Filters:
    """What an item must be; empty fields ask for nothing."""

    kinds: Sequence[ItemKind] = ()
    before: datetime | None = None
    tags: Sequence[tuple[str, str]] = ()  # an empty value: any
    models: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.kinds or self.before or self.tags or self.models)

    def accept(self, facts: dict[str, Any]) -> bool:
        """Whether an item's sealed facts fit; kind and date are the index's part."""
        tags = facts.get("tags", {})
        tagged = all(key in tags and value in ("", tags[key]) for key, value in self.tags)
        return tagged and (not self.models or model_of(facts) in self.models)


def parse(
    kinds: list[str] | None, before: str | None, tags: list[str] | None, models: list[str] | None
) -> Filters:
    """Read the flags.  Raises InvalidRequest."""
    pairs = [(key, value) for key, _, value in (word.partition("=") for word in tags or [])]
    if any(not key for key, _ in pairs):
        raise InvalidRequest("a tag has no name", hint="--tag KEY or --tag KEY=VALUE")
    return Filters(
        kinds=[kind_of(word) for word in kinds or []],
        before=date_of(before) if before else None,
        tags=pairs,
        models=models or [],
    )


def model_of(facts: dict[str, Any]) -> str | None:
    """The catalog name of the model that made an item; None for an upload."""
    recipe = facts.get("recipe") or {}
    name = recipe.get("model", {}).get("name")
    return str(name) if name else None


@dataclass(frozen=True)
class Found:
    """Items with their tags, and where the next page begins."""

    items: Sequence[tuple[Item, dict[str, str]]]
    next: str | None


def page(
    runtime: Runtime,
    filters: Filters,
    *,
    limit: int,
    after: str | None = None,
    expiring_before: datetime | None = None,
) -> Found:
    """Up to `limit` items that fit, newest first; a page is short only when nothing is left."""
    found: list[tuple[Item, dict[str, str]]] = []
    while True:
        part = runtime.vault().list(
            now=runtime.now(),
            limit=limit - len(found),
            after=after,
            kinds=filters.kinds,
            before=filters.before,
            expiring_before=expiring_before,
        )
        for item in part.items:
            facts = runtime.facts_of(item.id)
            if filters.accept(facts):
                found.append((item, dict(facts.get("tags", {}))))
        after = part.next
        if after is None or len(found) == limit:
            return Found(found, after)


def matching(runtime: Runtime, filters: Filters) -> Iterator[ItemId]:
    """Every item that fits, newest first.  Facts are read only where they are asked for: purge needs none."""
    facts_matter = bool(filters.tags or filters.models)
    after = None
    while True:
        part = runtime.vault().list(
            now=runtime.now(), limit=500, after=after, kinds=filters.kinds, before=filters.before
        )
        for item in part.items:
            if not facts_matter or filters.accept(runtime.facts_of(item.id)):
                yield item.id
        if part.next is None:
            return
        after = part.next


def kind_of(word: str) -> ItemKind:
    try:
        return ItemKind(word)
    except ValueError:
        raise InvalidRequest("unknown kind", hint="image, video or upload") from None


def date_of(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidRequest("not a date", hint="write YYYY-MM-DD") from None
