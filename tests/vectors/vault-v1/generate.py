"""Write the vectors of docs/spec/vault-v1.md: one whole vault, and faults with the error class each must give.

    python tests/vectors/vault-v1/generate.py

Run once for a format version: the vectors are kept, not made again, so that a change of the format shows.
"""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from fluxctx.domain import ItemKind, NewItem, VaultId  # noqa: E402
from fluxctx.vault import unlocking  # noqa: E402
from fluxctx.vault.crypto import TESTING_ONLY  # noqa: E402
from fluxctx.vault.paths import VaultPaths  # noqa: E402
from fluxctx.vault.store import create_vault, open_vault  # noqa: E402

MADE = datetime(2026, 11, 24, 12, tzinfo=UTC)
END = datetime(2126, 11, 24, 12, tzinfo=UTC)
PASSPHRASE = "gr\u00fcne \u00c4pfel"
RECOVERY = "abandon " * 23 + "art"
CONTENT = b"fluxctx vault vector\n" * 50
FAULTS = [
    # name, file, change, expected class
    ("header digest", "data/vault.json", {"replace": ["2026-", "2025-"]}, "VaultDamaged"),
    ("header cut", "data/vault.json", {"cut": 20}, "VaultDamaged"),
    ("newer format", "data/vault.json", {"replace": ["vault/1", "vault/2"]}, "VaultNewer"),
    ("keys magic", "state/keys", {"flip": [0, 1]}, "VaultDamaged"),
    ("keys of another vault", "state/keys", {"flip": [20, 1]}, "VaultDamaged"),
    ("keys cut in the header", "state/keys", {"cut": 100}, "VaultDamaged"),
    ("keys cut before the cells", "state/keys", {"cut": 32768}, "ItemGone"),
    ("passphrase slot: check", "state/keys", {"flip": [512 + 505, 1]}, "VaultDamaged or WrongPassphrase"),
    ("passphrase slot: salt", "state/keys", {"flip": [512 + 50, 1]}, "VaultDamaged or WrongPassphrase"),
    ("cell: version", "state/keys", {"flip": [32768 + 4, 1]}, "ItemGone"),
    ("cell: expiry", "state/keys", {"flip": [32768 + 33, 1]}, "ItemGone"),
    ("cell: wrapped key", "state/keys", {"flip": [32768 + 60, 1]}, "ItemGone"),
    ("cell: padding", "state/keys", {"flip": [32768 + 110, 1]}, "ItemGone"),
    ("cell: settled byte is not covered", "state/keys", {"flip": [32768 + 2, 1]}, "opens"),
    ("blob: header length", "blob", {"flip": [0, 1]}, "VaultDamaged"),
    ("blob: salt", "blob", {"flip": [1, 1]}, "VaultDamaged"),
    ("blob: nonce prefix", "blob", {"flip": [34, 1]}, "VaultDamaged"),
    ("blob: ciphertext", "blob", {"flip": [60, 1]}, "VaultDamaged"),
    ("blob: tag", "blob", {"flip": [-1, 1]}, "VaultDamaged"),
    ("blob: cut", "blob", {"cut": 500}, "VaultDamaged"),
    ("blob: trailing byte", "blob", {"append": "00"}, "VaultDamaged"),
    ("blob: empty", "blob", {"cut": 0}, "VaultDamaged"),
    ("index: first page", "data/index.db", {"flip": [40, 1]}, "VaultDamaged"),
    ("index: empty", "data/index.db", {"cut": 0}, "VaultDamaged"),
]


def main() -> None:
    vault = HERE / "vault"
    shutil.rmtree(vault, ignore_errors=True)
    paths = VaultPaths(data=vault / "data", state=vault / "state")
    secret = unlocking.passphrase(PASSPHRASE)
    vault_id = VaultId("000102030405060708090a0b0c0d0e0f")
    create_vault(paths, vault_id, secret, kdf=TESTING_ONLY, now=MADE, allow_testing_kdf=True)
    with open_vault(paths, secret, now=MADE) as opened:
        opened.add_secret(unlocking.recovery_phrase(RECOVERY), now=MADE)
        new = NewItem(
            kind=ItemKind.IMAGE,
            mime="image/png",
            expires_at=END,
            parts={"original": CONTENT, "thumbnail": b"small"},
            metadata={"recipe": {"prompt": "a red apple"}, "tags": {}},
        )
        (item,) = opened.put([new], now=MADE)
    blob = f"data/blobs/{item.id[:2]}/{item.id}.original"
    faults = [
        {"name": name, "file": blob if file == "blob" else file, "change": change, "expected": expected}
        for name, file, change, expected in FAULTS
    ]
    facts = {
        "passphrase": PASSPHRASE,
        "recovery_phrase": RECOVERY,
        "item": item.id,
        "content_hex": CONTENT.hex(),
        "faults": faults,
    }
    (HERE / "vectors.json").write_text(json.dumps(facts, indent=1) + "\n")


main()
