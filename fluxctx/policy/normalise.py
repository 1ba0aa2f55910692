"""Undo what hides words, and remember where each one stood in the ORIGINAL text.  Pure and linear.

NFKC, zero-width, bidi and tag characters, combining marks, confusables, leet, spaced letters, repeats, base64.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

# Letters of other scripts that look Latin.  Source: Unicode TR39 confusables.txt, the lower-case letters of it.
CONFUSABLES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u051b\u0261\u04bb\u0475\u0432\u043a\u043c\u0442\u043d\u0437"
    "\u03b1\u03b5\u03b9\u03bf\u03c1\u03c4\u03c5\u03c7\u03bd\u03ba\u03b7\u03b2\u0131\u0251\u1d0f\u1d1b\u0274\u1d07\u1d00\u026a\u0280\ua731",
    "aeopcyxijsdqghvbkmthzaeioptuxvknbiaotneairs",
)
LEET = str.maketrans("0134578@$!|+\u20ac", "oieastbasiite")
TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*", re.UNICODE)
LEET_TOKEN = re.compile(r"[\w@$!|+\u20ac]+(?:['\u2019][^\W_]+)*", re.UNICODE)
BASE64_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
# letters with one and the same separator between them; not part of a longer run with another one
_LETTERS = r"(?<![^\W_])(?<![^\W_][.\-_*/\\,])[^\W_]([\s.\-_*/\\,])[^\W_](?:\1[^\W_]){}(?![.\-_*/\\,]?[^\W_])"
SPACED = re.compile(_LETTERS.format("+"), re.UNICODE)
SPACED_PAIR = re.compile(_LETTERS.format("*"), re.UNICODE)
REPEATS = re.compile(r"(.)\1{2,}")
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
MOST_LEET_DIGITS = 2
SHORTEST_DECODED = 5
MAX_DECODED = 4096
HIDDEN = {"Cf", "Mn", "Me", "Cc", "Co", "Cn"}


class Token(NamedTuple):
    """One word as the rules see it; [start, end) is its place in the original; `hidden` if it had to be uncovered."""

    word: str
    start: int
    end: int
    hidden: bool = False
    nth: int = 0  # among words that were decoded from one place

    @property
    def place(self) -> tuple[int, int]:
        """Several readings of one word share it."""
        return self.start, self.nth


@dataclass(frozen=True, slots=True)
class Canonical:
    """A text ready to be judged: its tokens in order, and how many of them had been hidden."""

    tokens: tuple[Token, ...]

    @property
    def hidden(self) -> int:
        return sum(token.hidden for token in self.tokens)


def fold(text: str) -> tuple[str, list[int], list[bool]]:
    """Compatibility-fold character by character; returns text, the original index of each character, and marks.

    A mark says that something invisible was dropped before it, or that it was not what it looked like.
    """
    out: list[str] = []
    where: list[int] = []
    marks: list[bool] = []
    dropped = False
    if text.isascii() and not CONTROLS.search(text):
        return text.lower(), list(range(len(text))), []
    for index, original in enumerate(text):
        if original.isascii():
            if ord(original) < 32 and original not in "\t\n\r":
                dropped = True
                continue
            out.append(original.lower())
            where.append(index)
            marks.append(dropped and original.isalnum())
            dropped = False
            continue
        if unicodedata.category(original) in HIDDEN:
            dropped = dropped or bool(out and out[-1].isalnum())
            continue
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", original).casefold())
        for char in plain:
            if unicodedata.category(char) in HIDDEN:
                continue
            latin = char.translate(CONFUSABLES)
            out.append(latin)
            where.append(index)
            marks.append(dropped or (latin != original.lower() and latin.isascii()))
            dropped = False
    return "".join(out), where, marks


def canonicalise(text: str) -> Canonical:
    """Every word of a text, uncovered; words of decoded base64 carry the span of what they were decoded from."""
    folded, where, marks = fold(text)
    joined = list(_spaced(folded, where))
    covered = {index for token in joined for index in range(token.start, token.end)}
    found = [token for token in _plain(folded, where, marks) if token.start not in covered]
    found += [*joined, *_decoded(text)]
    found.sort(key=lambda token: (token.start, token.nth, token.end))
    return Canonical(tuple(found))


def _span(where: list[int], start: int, end: int) -> tuple[int, int]:
    return where[start], where[end - 1] + 1


def _plain(folded: str, where: list[int], marks: list[bool]) -> Iterator[Token]:
    """Ordinary words, and the words that leet letters or repeats stood for."""
    hidden_any = True in marks
    for match in LEET_TOKEN.finditer(folded):
        raw = match[0]
        first, last = match.span()
        start, end = where[first], where[last - 1] + 1
        marked = True in marks[first:last] if hidden_any else False
        if raw.isalpha() and not REPEATS.search(raw):
            yield Token(raw, start, end, marked)
            continue
        if raw.isdigit():
            yield Token(raw, start, end, marked)
            if len(raw) <= MOST_LEET_DIGITS:
                yield Token(raw.translate(LEET), start, end, hidden=True)
            continue
        if not any(map(str.isalpha, raw)):
            continue
        plain = raw.translate(LEET)
        squeezed = REPEATS.sub(r"\1", plain)
        words = dict.fromkeys(TOKEN.findall(raw), marked)
        for form in (plain, squeezed, REPEATS.sub(r"\1\1", plain)):
            for word in TOKEN.findall(form):
                words.setdefault(word, True)
        for word, hidden in words.items():
            yield Token(word.replace("\u2019", "'").removesuffix("'s"), start, end, hidden)


def _spaced(folded: str, where: list[int]) -> Iterator[Token]:
    """`k i l l` and `k.i.l.l`: letters that somebody pulled apart; then pairs of letters are words, too."""
    if not SPACED.search(folded):
        return
    for match in SPACED_PAIR.finditer(folded):
        word = "".join(char for char in match[0].translate(LEET) if char.isalnum())
        yield Token(word, *_span(where, match.start(), match.end()), hidden=True)


def _decoded(text: str) -> Iterator[Token]:
    """Base64 that turns out to be words; decoded once, never again."""
    for match in BASE64_TOKEN.finditer(text):
        raw = match[0].rstrip("=").replace("-", "+").replace("_", "/")[:MAX_DECODED]
        try:
            inside = base64.b64decode(
                raw[: len(raw) // 4 * 4 + (len(raw) % 4 if len(raw) % 4 != 1 else 0)] + "=" * (-len(raw) % 4)
            )
            words = inside.decode("utf-8")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            continue
        if _is_language(words):
            for nth, word in enumerate(TOKEN.findall(fold(words)[0])):
                yield Token(word.removesuffix("'s"), match.start(), match.end(), hidden=True, nth=nth + 1)


def _is_language(text: str) -> bool:
    """Mostly letters and spaces: what a chance decoding of an ordinary word never is."""
    letters = sum(char.isalpha() or char.isspace() for char in text)
    return (
        len(text) >= SHORTEST_DECODED
        and letters >= 0.8 * len(text)
        and all(char.isprintable() or char.isspace() for char in text)
    )
