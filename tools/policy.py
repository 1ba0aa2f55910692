"""Write the packaged policy's manifest (and, with --neighbours WORDS, the real words near a lexicon word).

python tools/policy.py [--check] [--neighbours /usr/share/dict/words]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tomllib
from pathlib import Path

from fluxctx.policy.bundle import FILES
from fluxctx.policy.rules import SHORTEST_EDIT, _deletions, _edit_table, one_edit, words_of

FOLDER = Path(__file__).resolve().parents[1] / "fluxctx" / "policy" / "lexicon"


def manifest() -> str:
    digests = {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in FILES}
    return json.dumps({"files": digests}, indent=1, sort_keys=True) + "\n"


def neighbours(words: Path) -> str:
    """Every dictionary word that the repair of misspellings would take for a word of the lexicon."""
    classes = tomllib.loads((FOLDER / "classes.toml").read_text())
    classes.pop("allow")
    firsts = {words_of(term)[0].removesuffix("*") for terms in classes.values() for term in terms}
    edits = _edit_table(word for word in firsts if len(word) >= SHORTEST_EDIT)
    found = set()
    for word in {line.strip().lower().removesuffix("'s") for line in words.read_text().splitlines()}:
        near = {other for key in _deletions(word) for other in edits.get(key, ())}
        if word not in firsts and any(word[0] == other[0] and one_edit(word, other) for other in near):
            found.add(word)
    return "\n".join(sorted(found)) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--neighbours", type=Path)
    asked = parser.parse_args()
    if asked.neighbours:
        (FOLDER / "neighbours.txt").write_text(neighbours(asked.neighbours))
    path = FOLDER / "MANIFEST.json"
    if asked.check:
        return 0 if path.read_text() == manifest() else 1
    path.write_text(manifest())
    return 0


if __name__ == "__main__":
    sys.exit(main())
