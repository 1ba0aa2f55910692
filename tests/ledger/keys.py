"""An account's ledger keys for tests, by `cryptography`: the runtime wires the vault's ciphers instead."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fluxctx.domain import Death, ItemId
from fluxctx.errors import VaultDamaged

NOON = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
LEDGER_ID = "5f" * 16


class AccountKeys:
    """Real ciphers under keys made from one byte; nonces count up, so that vectors repeat."""

    def __init__(self, seed: int = 1) -> None:
        self._signing = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self._aead = AESGCM(hashlib.sha256(bytes([seed])).digest())
        self._digest_key = bytes([seed ^ 0x80]) * 32
        self._nonces = itertools.count(1)

    @property
    def public_key(self) -> bytes:
        return self._signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def pem(self) -> bytes:
        return self._signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        return self._signing.sign(message)

    def seal(self, context: bytes, data: bytes) -> bytes:
        nonce = next(self._nonces).to_bytes(12, "big")
        return nonce + self._aead.encrypt(nonce, data, context)

    def open(self, context: bytes, data: bytes) -> bytes:
        try:
            return self._aead.decrypt(data[:12], data[12:], context)
        except InvalidTag as error:
            raise VaultDamaged("sealed data failed authentication") from error

    def digest(self, purpose: bytes, data: bytes) -> bytes:
        return hmac.new(self._digest_key, purpose + b"\n" + data, hashlib.sha256).digest()


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def counting_salts() -> Callable[[int], bytes]:
    numbers = itertools.count(1)
    return lambda count: next(numbers).to_bytes(count, "big")


def item_id(number: int) -> ItemId:
    return ItemId(hashlib.sha256(b"item %d" % number).hexdigest()[:32])


def deaths(first: int, count: int, *, reason: str = "expired") -> list[Death]:
    return [
        Death(
            id=item_id(number), at=NOON + timedelta(seconds=number), reason=reason, freed_bytes=1000 + number
        )
        for number in range(first, first + count)
    ]
