"""Which words of a prompt a small model knows, read from its tokenizer file without any tokenizer library.

The starter's T5 tokenizer holds whole words ("▁apple"), single letters and a little punctuation.  A word that
is not in it falls apart into letters, which mean nothing to the model: the caller should know.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fluxctx.errors import ModelAltered

WORD_START = "\u2581"
PUNCTUATION = ".,:'-!?&()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a model will read a prompt.

    `unknown` and `cut` are the positions of words, from 1: the caller may say "the 2nd word" where the word
    itself must not be repeated.
    """

    words: int
    unknown: tuple[int, ...]
    cut: tuple[int, ...]


def load_words(tokenizer: Path) -> frozenset[str]:
    """The whole words of a Unigram tokenizer.json; raises ModelAltered."""
    try:
        vocabulary = json.loads(tokenizer.read_bytes())["model"]["vocab"]
        return frozenset(
            piece[1:] for piece, _ in vocabulary if piece.startswith(WORD_START) and len(piece) > 1
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelAltered("the model's word list is damaged", hint="install the model again") from None


def read_prompt(prompt: str, known: Collection[str], *, max_tokens: int) -> Reading:
    """Count what the model will see of `prompt`, one token of `max_tokens` being the end mark.

    Inside a word the tokenizer knows only single characters, so a word is read as the longest known word that
    it starts with and then character by character; punctuation and a possessive after it do no harm.
    """
    unknown, cut, used = [], [], 1
    words = prompt.lower().split()
    for position, word in enumerate(words, start=1):
        prefix = next((word[:end] for end in range(len(word), 0, -1) if word[:end] in known), "")
        rest = word[len(prefix) :]
        if not prefix or rest.removeprefix("'s").strip(PUNCTUATION):
            unknown.append(position)
        used += 1 + len(rest)
        if used > max_tokens:
            cut.append(position)
    return Reading(words=len(words), unknown=tuple(unknown), cut=tuple(cut))
