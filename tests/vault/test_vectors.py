"""The vectors of docs/spec/vault-v1.md: a vault written once, and faults with the error each must give."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fluxctx.errors import FluxctxError
from fluxctx.vault import unlocking
from fluxctx.vault.paths import VaultPaths
from fluxctx.vault.store import open_vault
from tests.vault.reader import Reader

HERE = Path(__file__).parents[1] / "vectors" / "vault-v1"
FACTS: dict[str, Any] = json.loads((HERE / "vectors.json").read_text())
CONTENT = bytes.fromhex(FACTS["content_hex"])
NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HERE / "vault", tmp_path / "vault"))


def opened(root: Path, secret: unlocking.Secret) -> bytes:
    with open_vault(VaultPaths(data=root / "data", state=root / "state"), secret, now=NOW) as vault:
        return vault.read(FACTS["item"], now=NOW)


def test_the_vault_of_the_vectors_opens_with_every_secret(root: Path) -> None:
    assert opened(root, unlocking.passphrase(FACTS["passphrase"])) == CONTENT
    assert opened(root, unlocking.recovery_phrase(FACTS["recovery_phrase"])) == CONTENT
    reader = Reader(root / "data", root / "state", FACTS["passphrase"])
    assert reader.part(FACTS["item"], "original") == CONTENT
    assert reader.items()[FACTS["item"]]["recipe"]["prompt"] == "a red apple"


@pytest.mark.parametrize("fault", FACTS["faults"], ids=lambda fault: fault["name"])
def test_a_fault_gives_its_error(root: Path, fault: dict[str, Any]) -> None:
    path = root / fault["file"]
    data = bytearray(path.read_bytes())
    change = fault["change"]
    if "flip" in change:
        data[change["flip"][0]] ^= change["flip"][1]
    elif "cut" in change:
        del data[change["cut"] :]
    elif "append" in change:
        data += bytes.fromhex(change["append"])
    else:
        old, new = (word.encode() for word in change["replace"])
        assert old in data
        data = bytearray(bytes(data).replace(old, new))
    path.write_bytes(data)
    try:
        outcome = "opens" if opened(root, unlocking.passphrase(FACTS["passphrase"])) == CONTENT else "wrong"
    except FluxctxError as error:
        outcome = type(error).__name__
    assert outcome in fault["expected"].split(" or ")
