"""Which licence a model directory states, to be shown before it is added."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "LICENCE.md")
# Licences that bind whoever offers the model to filter what it makes.
FILTER_WORDS = ("flux", "black-forest", "stability", "openrail")
SHOWN_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """Its name as the directory states it ("unknown" if it does not) and its text, if it lies there."""

    name: str
    text: str
    requires_filter: bool


def find_licence(root: Path) -> Licence:
    """Read README.md's front matter and a licence file; never guesses from the model's name."""
    text = next((_read(root / name) for name in FILES if (root / name).is_file()), "")
    card = _read(root / "README.md")
    name = _from_card(card) or _from_text(text) or "unknown"
    asks = f"{name} {text[:2000]}".lower()
    return Licence(name=name, text=text, requires_filter=any(word in asks for word in FILTER_WORDS))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(SHOWN_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _from_card(card: str) -> str:
    """`license_name` where the card has one, else `license`, out of the YAML front matter."""
    front = re.match(r"---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    if not front:
        return ""
    found = dict(re.findall(r"^(license|license_name):\s*([\w .+-]{1,80})\s*$", front[1], re.MULTILINE))
    return str(found.get("license_name") or found.get("license") or "").strip()


def _from_text(text: str) -> str:
    """The licence file's first words that are not empty, at most 80 characters."""
    return next((line.strip(" #*")[:80] for line in text.splitlines() if line.strip(" #*")), "")
