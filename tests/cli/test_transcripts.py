"""Play tests/transcripts/*.txt against the real program: stdout plain, stderr after `!`, another code after `?`."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.running import make_home

FOLDER = Path(__file__).parents[1] / "transcripts"


@dataclass
class Step:
    arguments: list[str]
    code: int = 0
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)


def steps_of(text: str) -> list[Step]:
    steps: list[Step] = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("$ fluxctx "):
            steps.append(Step(shlex.split(line.removeprefix("$ fluxctx "))))
        elif line.startswith("? "):
            steps[-1].code = int(line[2:])
        elif line.startswith("! "):
            steps[-1].err.append(line[2:])
        else:
            steps[-1].out.append(line)
    return steps


def like(pattern: str, line: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("\u2026"))), line) is not None


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.txt")))
def test_the_program_answers_as_the_transcript_says(tmp_path: Path, name: str) -> None:
    home = make_home(tmp_path)
    for step in steps_of((FOLDER / f"{name}.txt").read_text()):
        done = home.run(*step.arguments)
        where = f"fluxctx {shlex.join(step.arguments)}\n{done.text}{done.err}"
        assert done.code == step.code, where
        shown = [line.rstrip() for line in done.text.splitlines() if line.strip()]
        assert len(shown) == len(step.out), where
        assert all(like(pattern.rstrip(), line) for pattern, line in zip(step.out, shown, strict=True)), where
        said = [line for line in done.err.splitlines() if line.startswith(("error:", "hint:"))]
        assert len(said) == len(step.err), where
        assert all(like(pattern, line) for pattern, line in zip(step.err, said, strict=True)), where
