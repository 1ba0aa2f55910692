"""Runs every vector of the specification; each names the error class that it must give."""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from fluxctx.errors import FluxctxError
from fluxctx.ledger import canonical, entry, note, receipts, tree
from fluxctx.ledger.entry import Disclosure
from fluxctx.ledger.store import open_ledger
from tests.ledger.keys import LEDGER_ID, verify

VECTORS = Path(__file__).parents[1] / "vectors" / "ledger-v1"
Head = dict[str, str]


def check_entry(head: Head, body: str, tmp: Path) -> None:
    one = entry.read(body.encode(), int(head["seq"]))
    if "facts" in head:
        shown = Disclosure(facts=canonical.parse(head["facts"].encode()), salt=base64.b64decode(head["salt"]))
        entry.verify_disclosure(one, shown)


def check_batch(head: Head, body: str, tmp: Path) -> None:
    (tmp / "receipts.jsonl").write_text(body)
    with (tmp / "receipts.jsonl").open("rb") as file:
        lines = receipts.check_batch(file.fileno(), entry.read(head["entry"].encode(), 0))
    for line in lines:
        entry.read_receipt(line)


def check_checkpoint(head: Head, body: str, tmp: Path) -> None:
    text, _ = note.verify(body, [note.parse_key(head["vkey"])], verify)
    note.parse_head(text)


def check_proof(head: Head, body: str, tmp: Path) -> None:
    note.verify_proof(head["entry"].encode(), note.parse_proof(body), [note.parse_key(head["vkey"])], verify)


def check_consistency(head: Head, body: str, tmp: Path) -> None:
    roots = bytes.fromhex(head["old_root"]), bytes.fromhex(head["new_root"])
    path = [base64.b64decode(line) for line in body.splitlines()]
    tree.verify_consistency(int(head["old"]), roots[0], int(head["new"]), roots[1], path)


def check_ledger(head: Head, body: str, tmp: Path) -> None:
    home = tmp / LEDGER_ID
    home.mkdir()
    (home / "entries.jsonl").write_text(body)
    (home / "checkpoint").write_bytes(base64.b64decode(head["checkpoint"]))
    header = {"format": "fluxctx.ledger/1", "keys": [head["vkey"]], "origin": f"fluxctx/ledger/{LEDGER_ID}"}
    (home / "ledger.json").write_bytes(canonical.render(header) + b"\n")
    ledger = open_ledger(home, None, verify=verify)
    ledger.verify()
    assert ledger.head().size == int(head["size"])


CHECKS: dict[str, Callable[[Head, str, Path], None]] = {
    "entry": check_entry,
    "batch": check_batch,
    "checkpoint": check_checkpoint,
    "proof": check_proof,
    "consistency": check_consistency,
    "ledger": check_ledger,
}


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.txt")), ids=lambda path: path.stem)
def test_vector(path: Path, tmp_path: Path) -> None:
    facts, _, body = path.read_text().partition("\n\n")
    head = dict(line.split(": ", 1) for line in facts.splitlines())
    check = CHECKS[head["kind"]]
    if head["expect"] == "ok":
        check(head, body, tmp_path)
    else:
        with pytest.raises(FluxctxError) as caught:
            check(head, body, tmp_path)
        assert caught.value.slug == head["expect"], head["comment"]


def test_the_vectors_are_what_the_specification_alone_gives() -> None:
    spec = importlib.util.spec_from_file_location("generate", VECTORS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.build() == {path.name: path.read_text() for path in VECTORS.glob("*.txt")}
