"""Accounts, models and requests for tests; the sealer is real AES-GCM by `cryptography`."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fluxctx.accounts.record import AccountRecord
from fluxctx.accounts.strikes import Strike
from fluxctx.accounts.terms import Acceptance, Terms
from fluxctx.domain import (
    Account,
    AccountId,
    GenerationRequest,
    InstalledModel,
    Size,
    VaultId,
    Workflow,
)
from fluxctx.errors import VaultDamaged

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TERMS = Terms(version="1", text="Version 1, 2026-11-24\n", sha256="ab" * 32)


class Machine:
    """The machine key's sealer."""

    def __init__(self, key: bytes = b"m" * 32) -> None:
        self._aead = AESGCM(key)

    def seal(self, context: bytes, data: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, data, context)

    def open(self, context: bytes, data: bytes) -> bytes:
        try:
            return self._aead.decrypt(data[:12], data[12:], context)
        except (InvalidTag, ValueError) as error:
            raise VaultDamaged("sealed data failed authentication") from error


def account_id(number: int) -> AccountId:
    return AccountId(f"{number:032x}")


def vault_id(number: int) -> VaultId:
    return VaultId(f"{number:031x}a")


def account(plan: str = "free", **changes: Any) -> Account:
    facts: dict[str, Any] = {
        "id": account_id(1),
        "name": "ada",
        "vault_id": vault_id(1),
        "plan": plan,
        "role": "user",
        "status": "active",
        "created_at": NOON - 100 * DAY,
    }
    return Account(**facts | changes)


def record(plan: str = "free", **changes: Any) -> AccountRecord:
    accepted = (Acceptance(version="1", sha256="ab" * 32, at=NOON - DAY),)
    return AccountRecord(**{"account": account(plan), "acceptances": accepted} | changes)


def model(name: str = "starter", **changes: Any) -> InstalledModel:
    facts: dict[str, Any] = {
        "name": name,
        "directory": "starter",
        "pipeline": "FluxKontextPipeline",
        "workflows": (Workflow.TEXT_TO_IMAGE, Workflow.EDIT),
        "licence": "Apache-2.0",
        "sha256": "0" * 64,
        "size_bytes": 36_700_000,
        "requires_filter": False,
        "native_sizes": (Size(width_px=64, height_px=64),),
        "size_multiple": 8,
        "default_size": Size(width_px=256, height_px=256),
        "default_steps": 20,
        "max_steps": 100,
        "default_guidance": 3.0,
        "embedded": name == "starter",
    }
    return InstalledModel(**facts | changes)


def request(**changes: Any) -> GenerationRequest:
    return GenerationRequest(**{"workflow": Workflow.TEXT_TO_IMAGE, "prompt": "a red apple"} | changes)


def strike(number: int = 0, **changes: Any) -> Strike:
    facts: dict[str, Any] = {
        "id": f"{number:032x}",
        "at": NOON,
        "category": "hate",
        "rule": "hate/1",
        "source": "locked-rule",
        "digest": f"{number:064x}",
        "policy_revision": 1,
    }
    return Strike(**facts | changes)
