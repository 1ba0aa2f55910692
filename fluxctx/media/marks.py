"""What a copy says of itself, handed in by the caller; provenance/ words it, this room writes it.

There is no field that leaves a mark out: a copy without a packet cannot be asked for, and the watermark is
put into every picture that is large enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A C2PA credential to be signed: the manifest, the certificates, and the key's owner as a function."""

    manifest: Mapping[str, Any]  # provenance.manifest.manifest
    chain: bytes  # leaf and root, PEM
    sign: Callable[[bytes], bytes] = field(repr=False)  # ES256: r then s


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The marks of one copy: the XMP packet (provenance.xmp.packet), and a credential if there is a key."""

    xmp: str = field(repr=False)  # with metadata "full" it holds the prompt
    credential: Credential | None = None

    def __post_init__(self) -> None:
        if "DigitalSourceType" not in self.xmp or "DataMining" not in self.xmp:
            raise ValueError("a copy carries the AI mark and the no-training assertion")
