"""The acceptable-use terms: a text with a version and a digest, accepted before the first run (P9)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

NEWEST = "v1.md"
VERSION_LINE = re.compile(r"^Version (\d+(?:\.\d+)*), (\d{4}-\d{2}-\d{2})$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One version of the terms; `sha256` is of the text's UTF-8 bytes."""

    version: str
    text: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """That an account accepted exactly this text, and when."""

    version: str
    sha256: str
    at: datetime

    def covers(self, terms: Terms) -> bool:
        """Whether these are the terms in force: a changed text is a new text, whatever its version says."""
        return (self.version, self.sha256) == (terms.version, terms.sha256)


def parse_terms(text: str) -> Terms:
    """Read terms; raises ValueError where the line `Version N, YYYY-MM-DD` is missing."""
    match = VERSION_LINE.search(text)
    if match is None:
        raise ValueError("the terms have no version line")
    return Terms(version=match[1], text=text, sha256=hashlib.sha256(text.encode()).hexdigest())


def current_terms() -> Terms:
    """The terms in force, from the package."""
    return parse_terms(files("fluxctx.accounts").joinpath("terms_text", NEWEST).read_text("utf-8"))
