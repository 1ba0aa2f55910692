"""Small vaults with cheap key stretching, for tests only."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fluxctx.domain import Item, ItemKind, NewItem, SweepResult, VaultId
from fluxctx.vault import unlocking
from fluxctx.vault.crypto import TESTING_ONLY
from fluxctx.vault.paths import VaultPaths
from fluxctx.vault.store import Vault, create_vault, open_vault
from fluxctx.vault.sweep import sweep

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PASSPHRASE = "correct horse battery staple"


@dataclass(frozen=True)
class Place:
    """A vault's directories, and how a test opens, fills and sweeps it."""

    root: Path

    @property
    def paths(self) -> VaultPaths:
        return VaultPaths(data=self.root / "data", state=self.root / "state")

    def create(self, passphrase: str = PASSPHRASE) -> Place:
        create_vault(
            self.paths,
            VaultId(secrets.token_hex(16)),
            unlocking.passphrase(passphrase),
            kdf=TESTING_ONLY,
            now=NOW,
            allow_testing_kdf=True,
        )
        return self

    def open(self, passphrase: str = PASSPHRASE, now: datetime = NOW) -> Vault:
        return open_vault(self.paths, unlocking.passphrase(passphrase), now=now)

    def sweep(self, now: datetime = NOW, running_s: float = 1e6, deaths: Any = None) -> SweepResult:
        entered = deaths if deaths is not None else []
        return sweep(self.paths, now=now, running_s=running_s, on_deaths=entered.extend)


def new(content: bytes = b"picture", days: float = 30, **metadata: Any) -> NewItem:
    return NewItem(
        kind=ItemKind.IMAGE,
        mime="image/png",
        expires_at=NOW + timedelta(days=days),
        parts={"original": content, "thumbnail": b"small " + content[:16]},
        metadata=metadata or {"recipe": {"prompt": "a red apple"}, "tags": {}},
    )


def put(vault: Vault, content: bytes = b"picture", days: float = 30) -> Item:
    (item,) = vault.put([new(content, days)], now=NOW)
    return item
