"""Read what a file asserts about itself, for anyone: no account, no vault, no network.

Each statement is reported with who vouches for it.  XMP is text that anybody can write or remove and is never
called verified; a credential is signed, "Valid" by a key nobody here knows, "Trusted" by one whose root was
given; the watermark only says that some fluxctx made the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from fluxctx.provenance.manifest import NOT_ALLOWED
from fluxctx.provenance.xmp import FLUXCTX, IPTC, PLUS, SOURCE_TYPES, TDM, XMP

_AI_SOURCES: Final = frozenset(
    f"http://cv.iptc.org/newscodes/digitalsourcetype/{name}"
    for name in ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia")
)
_NO_TRAINING: Final = frozenset(
    f"http://ns.useplus.org/ldf/vocab/{name}"
    for name in (
        "DMI-PROHIBITED",
        "DMI-PROHIBITED-AIMLTRAINING",
        "DMI-PROHIBITED-GENAIMLTRAINING",
        "DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING",
    )
)


class Inspector(Protocol):
    """The media room, seen from here."""

    def inspect(self, content: bytes, *, watermark: bool = False, anchors: bytes = b"") -> dict[str, Any]:
        """Read format, size and marks; raises MediaInvalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertions:
    """What one file says of itself; None means that it says nothing about it."""

    format: str
    width_px: int
    height_px: int
    # XMP: unsigned text
    ai_generated: bool | None
    edited_from_a_picture: bool | None
    training_allowed: bool | None
    mining_reserved: bool | None
    tool: str | None
    recipe_embedded: bool
    recipe: str | None = field(repr=False)
    xmp_damaged: bool
    # the credential: signed; says nothing when its state is "Invalid"
    credential: str | None  # "Trusted", "Valid", "Invalid"
    credential_issuer: str | None
    credential_ai_generated: bool | None
    credential_training_allowed: bool | None
    credential_failures: tuple[str, ...]
    # the pixels
    watermark: bool | None  # None: not looked for, or the picture is too small
    watermark_bits: int | None  # of 32

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, without the recipe: that is the owner's text and printed only when asked for."""
        names = (name for name in self.__slots__ if name != "recipe")
        return {name: getattr(self, name) for name in names}


def read_assertions(content: bytes, media: Inspector, *, anchors: bytes = b"") -> Assertions:
    """Read a file's marks through the confined media child.

    Args:
        content: Anybody's picture.
        media: The media room.
        anchors: Root certificates to trust, PEM: the account's own, say.

    Raises:
        MediaInvalid: it is no whole picture.
    """
    return interpret(media.inspect(content, watermark=True, anchors=anchors))


def interpret(facts: Mapping[str, Any]) -> Assertions:
    """Say in plain terms what the inspected marks mean (pure).

    Every word of `facts` may come from a stranger: text is cut to what a terminal can show, and a statement
    of another shape than its specification says counts as not made.
    """
    marks = facts["marks"]
    properties = _mapping(marks["xmp"])
    source = properties.get(f"{{{IPTC}}}DigitalSourceType")
    mining = properties.get(f"{{{PLUS}}}DataMining")
    reserved = properties.get(f"{{{TDM}}}reservation")
    recipe = properties.get(f"{{{FLUXCTX}}}Recipe")
    found = _mapping(marks["watermark"])
    return Assertions(
        format=_plain(facts["format"]) or "",
        width_px=facts["width_px"],
        height_px=facts["height_px"],
        ai_generated=None if source is None else str(source) in _AI_SOURCES,
        edited_from_a_picture=None if source is None else source == SOURCE_TYPES["edited"],
        training_allowed=None if mining is None else str(mining) not in _NO_TRAINING,
        mining_reserved=None if reserved is None else reserved == "1",
        tool=_plain(properties.get(f"{{{XMP}}}CreatorTool")),
        recipe_embedded=recipe is not None,
        recipe=recipe if isinstance(recipe, str) else None,
        xmp_damaged=bool(marks["xmp_damaged"]),
        **_of_credential(marks["credential"]),
        watermark=found.get("present"),
        watermark_bits=found.get("bits"),
    )


def _of_credential(credential: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a credential vouches for; an invalid one vouches for nothing."""
    state = None
    if credential is not None:
        state = credential["state"] if credential["state"] in ("Trusted", "Valid") else "Invalid"
    said = _mapping(credential) if state != "Invalid" else {}
    assertions = _mapping(said.get("assertions"))
    sources = {
        action.get("digitalSourceType")
        for label, data in assertions.items()
        if label.startswith("c2pa.actions")
        for action in map(_mapping, _sequence(_mapping(data).get("actions")))
    } - {None}
    entries = _mapping(_mapping(assertions.get("cawg.training-mining")).get("entries"))
    failures = _sequence(_mapping(credential).get("failures"))
    return {
        "credential": state,
        "credential_issuer": _plain(said.get("issuer")),
        "credential_ai_generated": bool(_AI_SOURCES.intersection(map(str, sources))) if sources else None,
        "credential_training_allowed": not _all_refused(entries) if entries else None,
        "credential_failures": tuple(filter(None, map(_plain, failures))),
    }


def _all_refused(entries: Mapping[str, Any]) -> bool:
    """CAWG: a constraint without more words is a refusal."""
    uses = (_mapping(entries.get(name)).get("use") for name in NOT_ALLOWED)
    return all(use in ("notAllowed", "constrained") for use in uses)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _plain(text: object) -> str | None:
    """Text for a terminal: printable, at most 200 characters; what is no text is nothing."""
    if not isinstance(text, str):
        return None
    return "".join(character for character in text[:200] if character.isprintable())
