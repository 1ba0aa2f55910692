"""What the prompt filter catches, what it wrongly stops, what twelve disguises cost it, and how long it takes.

    python benchmarks/policy.py DIRECTORY_OF_JSONL [--profile hosted]

Each line of a file: {"text", "label": 1 or 0, "category"}.  No data set is part of this repository.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from fluxctx.domain import Action
from fluxctx.policy.filter import PolicyFilter, open_filter

STOPPED = (Action.REVIEW, Action.BLOCK)
FULL_WIDTH = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})


def misspelt(text: str) -> str:
    """One edit in each word of six letters or more, the same every time."""
    chance, words = random.Random(text), text.split()
    for index, word in enumerate(words):
        if len(word) >= 6:
            at = chance.randrange(1, len(word) - 1)
            words[index] = word[:at] + word[at + 1 :]
    return " ".join(words)


DISGUISES: dict[str, Callable[[str], str]] = {
    "leetspeak": lambda text: text.translate(str.maketrans("aeiosAEIOS", "4310543105")),
    "homoglyphs": lambda text: text.translate(str.maketrans("aeopc", "\u0430\u0435\u043e\u0440\u0441")),
    "zero-width": "\u200b".join,
    "spaced": lambda text: "   ".join(" ".join(word) for word in text.split()),
    "dotted": lambda text: " ".join(".".join(word) for word in text.split()),
    "emoji in words": lambda text: text.replace("s", "s\ufe0f\u2060").replace("e", "e\ufe0f"),
    "misspelt": misspelt,
    "diacritics": lambda text: "".join(char + "\u0301" if char.isalpha() else char for char in text),
    "full-width": lambda text: text.translate(FULL_WIDTH),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "alternating case": lambda text: "".join(c.upper() if i % 2 else c.lower() for i, c in enumerate(text)),
    "repeated letters": lambda text: "".join(char * 3 if char in "aou" else char for char in text),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--profile", default="hosted")
    asked = parser.parse_args()
    judge = open_filter(profile=asked.profile)
    caught: list[str] = []
    times: list[float] = []
    print("| source | label | rows | stopped % | blocked % | minors_sexual |\n|---|---|---|---|---|---|")
    for path in sorted(asked.data.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for label in (1, 0):
            part(
                judge, path.stem, label, [row["text"] for row in rows if row["label"] == label], caught, times
            )
    times.sort()
    print(
        f"\nCPU ms a prompt: p50 {times[len(times) // 2] * 1e3:.3f}, p99 {times[int(len(times) * 0.99)] * 1e3:.3f}"
    )
    disguised(judge, [text for text in caught if len(text) < 200])


def part(
    judge: PolicyFilter, name: str, label: int, texts: list[str], caught: list[str], times: list[float]
) -> None:
    if not texts:
        return
    verdicts = []
    for text in texts:
        began = time.process_time()
        verdicts.append(judge.check_text({"prompt": text}))
        times.append(time.process_time() - began)
    stopped = [verdict.action in STOPPED for verdict in verdicts]
    blocked = sum(verdict.action is Action.BLOCK for verdict in verdicts)
    minors = sum(any(f.category == "minors_sexual" for f in verdict.findings) for verdict in verdicts)
    if label:
        caught += [text for text, hit in zip(texts, stopped, strict=True) if hit]
    word = "unsafe" if label else "benign"
    share, blocks = 100 * sum(stopped) / len(texts), 100 * blocked / len(texts)
    print(f"| {name} | {word} | {len(texts)} | {share:.1f} | {blocks:.1f} | {minors} |")


def disguised(judge: PolicyFilter, caught: list[str]) -> None:
    """Share of clean detections that each disguise leaves."""
    print(f"\nof {len(caught)} clean detections, kept %:")
    kept = {}
    for name, disguise in DISGUISES.items():
        hits = sum(judge.check_text({"prompt": disguise(text)}).action in STOPPED for text in caught)
        kept[name] = 100 * hits / len(caught)
        print(f"| {name} | {kept[name]:.1f} |")
    print(f"mean {statistics.mean(kept.values()):.1f}, worst {min(kept.values()):.1f}")


main()
