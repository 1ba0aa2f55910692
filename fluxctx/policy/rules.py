"""Locked and other rules over canonical tokens: phrases, and conjunctions of word classes within a window.  Pure.

The lexicon's words match whole tokens, their plural and, from six letters on, one edit of a misspelt word.
Allow-phrases are taken out first: a "blood orange" is no blood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fluxctx.policy.normalise import Canonical, Token

SHORTEST_EDIT = 6
LONGEST_EDIT = 24
ES = ("ses", "xes", "zes", "ches", "shes")
MOST_REMEMBERED = 4096
TERM_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*\*?")
SHORT_AGE = re.compile(r"(?:1[0-7]|[1-9])(?:yo|yrs?|y|yearold)")
AGE_STARTS = frozenset("123456789otfsen")
AGES = frozenset(
    [
        *map(str, range(1, 18)),
        *[
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
        ],
        "seventeen",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`all_of` names word classes that must stand within `window` tokens; one class is a plain term rule."""

    id: str
    category: str
    all_of: tuple[str, ...]
    window: int
    locked: bool
    unless: tuple[str, ...] = ()  # classes whose presence anywhere turns the rule off (never of a locked one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A rule that holds, and where in the original text."""

    rule: Rule
    start: int
    end: int
    hidden: bool


class Lexicon:
    """Word classes, with phrases as sequences of words; `word*` matches any ending."""

    def __init__(
        self,
        classes: Mapping[str, Sequence[str]],
        allow: Sequence[str],
        neighbours: frozenset[str] = frozenset(),
    ) -> None:
        self._first: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        self._prefixes: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for name, terms in classes.items():
            for term in terms:
                words = words_of(term)
                table = self._prefixes if words[0].endswith("*") else self._first
                table.setdefault(words[0].removesuffix("*"), []).append((words, name))
        self._lengths = sorted({len(prefix) for prefix in self._prefixes})
        self._allow: dict[str, list[tuple[str, ...]]] = {}
        for phrase in map(words_of, allow):
            self._allow.setdefault(phrase[0], []).append(phrase)
        known = set(neighbours) | {
            word for phrases in self._allow.values() for phrase in phrases for word in phrase
        }
        self._neighbours = frozenset(known)
        self._edits = _edit_table(
            word for word in [*self._first, *self._prefixes] if len(word) >= SHORTEST_EDIT
        )
        self._prefix_edits = _edit_table(word for word in self._prefixes if len(word) >= SHORTEST_EDIT)
        long = {length for length in self._lengths if length >= SHORTEST_EDIT}
        self._cuts = sorted({length + step for length in long for step in (-1, 0, 1)})
        self._seen: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {}

    def classes_of(self, tokens: Sequence[Token]) -> Iterator[tuple[int, int, str]]:
        """(first token, one past the last, class) for every term that stands in the tokens."""
        skip = self._allowed(tokens)
        for position, token in enumerate(tokens):
            if position in skip:
                continue
            if token.word[0] in AGE_STARTS:
                end = _age(tokens, position)
                if end is not None:
                    yield position, end, "minor"
            for words, name in self._entries(token.word):
                end = _follow(tokens, position, words)
                if end is not None:
                    yield position, end, name

    def _entries(self, word: str) -> tuple[tuple[tuple[str, ...], str], ...]:
        """Every term that may begin with this word, however it is spelt."""
        found = self._seen.get(word)
        if found is None:
            if len(self._seen) > MOST_REMEMBERED:
                self._seen.clear()
            found = self._seen[word] = tuple(self._look_up(word))
        return found

    def _look_up(self, word: str) -> list[tuple[tuple[str, ...], str]]:
        found = [entry for form in _singulars(word) for entry in self._first.get(form, ())]
        for length in self._lengths:
            if length <= len(word):
                found += self._prefixes.get(word[:length], ())
        if not found and SHORTEST_EDIT - 1 <= len(word) <= LONGEST_EDIT and word not in self._neighbours:
            repaired = self._repair(word)
            if repaired is not None:
                found = [*self._first.get(repaired, ()), *self._prefixes.get(repaired, ())]
        return found

    def _repair(self, word: str) -> str | None:
        """The lexicon word one edit away; the first letter stays, as it does in real misspellings."""
        whole = _singulars(word)
        for form in [*whole, *(word[:cut] for cut in self._cuts if cut < len(word))]:
            known = self._edits if form in whole else self._prefix_edits
            for candidate in (found for key in _deletions(form) for found in known.get(key, ())):
                if candidate[0] == word[0] and one_edit(form, candidate):
                    return candidate
        return None

    def _allowed(self, tokens: Sequence[Token]) -> set[int]:
        """Positions inside an allow-phrase."""
        inside: set[int] = set()
        for position, token in enumerate(tokens):
            word = token.word
            for form in _singulars(word) if word.endswith("s") else (word,):
                for phrase in self._allow.get(form, ()):
                    end = _follow(tokens, position, phrase)
                    if end is not None:
                        inside |= set(range(position, end))
        return inside


def words_of(term: str) -> tuple[str, ...]:
    """A term of the lexicon as the canonical words that stand for it."""
    words = tuple(TERM_WORD.findall(term.lower()))
    return tuple(word.removesuffix("'s") for word in words)


def _singulars(word: str) -> tuple[str, ...]:
    if len(word) > 3 and word.endswith("s"):
        return (word, word[:-1], word[:-2]) if word.endswith(ES) else (word, word[:-1])
    return (word,)


def _age(tokens: Sequence[Token], position: int) -> int | None:
    """`12 years old`, `12yo`, `aged 12`: one past the last token, if this number is a minor's age."""
    if SHORT_AGE.fullmatch(tokens[position].word):
        return position + 1
    if tokens[position].word not in AGES:
        return None
    after = [
        token.word for token in tokens[position + 1 : position + 5] if token.start != tokens[position].start
    ]
    if after and after[0] in {"yo", "yrs", "y"}:
        return position + 2
    if (
        len(after) > 1
        and after[0] in {"year", "years", "yr", "month", "months"}
        and after[1] in {"old", "girl", "boy"}
    ):
        return position + 3
    if position and tokens[position - 1].word in {"aged", "age"}:
        return position + 1
    return None


def _matches(word: str, wanted: str) -> bool:
    """Whether a token is a phrase's next word, misspelt by one edit perhaps."""
    if wanted.endswith("*"):
        return word.startswith(wanted[:-1])
    if wanted in _singulars(word):
        return True
    return (
        len(wanted) >= SHORTEST_EDIT
        and len(word) >= SHORTEST_EDIT - 1
        and word[0] == wanted[0]
        and one_edit(word, wanted)
    )


def _follow(tokens: Sequence[Token], position: int, words: Sequence[str]) -> int | None:
    """Match the rest of a phrase whose first word stands at `position`; several readings of one place count once."""
    end, place = position + 1, tokens[position].place
    for wanted in words[1:]:
        while end < len(tokens) and tokens[end].place == place:
            end += 1
        if end >= len(tokens):
            return None
        at, place = end, tokens[end].place
        while at < len(tokens) and tokens[at].place == place and not _matches(tokens[at].word, wanted):
            at += 1
        if at >= len(tokens) or tokens[at].place != place:
            return None
        end = at + 1
    return end


@lru_cache(maxsize=4096)
def _deletions(word: str) -> frozenset[str]:
    """The word and every word with one letter less.  Source: Garbe, symmetric delete spelling correction."""
    return frozenset([word, *(word[:i] + word[i + 1 :] for i in range(len(word)))])


def _edit_table(words: Iterable[str]) -> dict[str, tuple[str, ...]]:
    table: dict[str, list[str]] = {}
    for word in words:
        for key in _deletions(word):
            table.setdefault(key, []).append(word)
    return {key: tuple(found) for key, found in table.items()}


def one_edit(a: str, b: str) -> bool:
    """One substitution, insertion, deletion or swap of neighbours apart."""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    rest_a, rest_b = a[start:], b[start:]
    if len(a) == len(b):
        swapped = (
            len(rest_a) > 1 and rest_a[0] == rest_b[1] and rest_a[1] == rest_b[0] and rest_a[2:] == rest_b[2:]
        )
        return swapped or rest_a[1:] == rest_b[1:]
    return rest_a[1:] == rest_b if len(a) > len(b) else rest_a == rest_b[1:]


def apply(rules: Sequence[Rule], lexicon: Lexicon, text: Canonical) -> list[Hit]:
    """Every rule that holds, once each, at its first and tightest place; independent of the rules' order."""
    found: dict[str, list[tuple[int, int]]] = {}
    nth = _ordinals(text.tokens)
    for start, end, name in lexicon.classes_of(text.tokens):
        found.setdefault(name, []).append((start, end))
    hits = []
    for rule in rules:
        if any(name in found for name in rule.unless) and not rule.locked:
            continue
        if all(name in found for name in rule.all_of):
            place = _together([found[name] for name in rule.all_of], rule.window, nth)
            if place is not None:
                hits.append(_hit(rule, text.tokens[place[0] : place[1]]))
    return sorted(hits, key=lambda hit: (hit.start, hit.rule.id))


def _ordinals(tokens: Sequence[Token]) -> list[int]:
    """Which word of the text each token is a reading of: a disguise must not stretch a window."""
    ordinals: list[int] = []
    last, count = None, -1
    for token in tokens:
        if token.place != last:
            last, count = token.place, count + 1
        ordinals.append(count)
    return ordinals


def _together(
    places: Sequence[Sequence[tuple[int, int]]], window: int, nth: Sequence[int]
) -> tuple[int, int] | None:
    """The tightest stretch that holds one of each, no longer than `window` words; linear in the places."""
    best: tuple[int, int] | None = None
    shortest = window + 1
    latest: list[tuple[int, int] | None] = [None] * len(places)
    marks = sorted((end, start, which) for which, found in enumerate(places) for start, end in found)
    for end, start, which in marks:
        latest[which] = (start, end)
        if any(place is None for place in latest):
            continue
        low = min(place[0] for place in latest if place is not None)
        length = nth[end - 1] + 1 - nth[low]
        if length <= window and length < shortest:
            best, shortest = (low, end), length
    return best


def _hit(rule: Rule, tokens: Sequence[Token]) -> Hit:
    start, end = min(token.start for token in tokens), max(token.end for token in tokens)
    return Hit(rule=rule, start=start, end=end, hidden=any(token.hidden for token in tokens))
