"""Every cipher of the package: AES-256-GCM, HKDF, HMAC, Argon2id, Ed25519, all through `cryptography`.

Source: docs/spec/vault-v1.md, section 2.  Nobody else imports `cryptography` for encryption.
"""

from __future__ import annotations

import hmac
import secrets
import unicodedata
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fluxctx.errors import IntegrityError, UsageError, VaultDamaged

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
MAX_PASSPHRASE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KdfParams:
    """Argon2id's cost.  Bounded before any memory is taken: a vault on a stick must not eat a machine."""

    memory_kib: int
    iterations: int
    lanes: int

    def __post_init__(self) -> None:
        bounds = ((self.memory_kib, 8, 4 * 1024 * 1024), (self.iterations, 1, 64), (self.lanes, 1, 16))
        if not all(low <= value <= high for value, low, high in bounds) or self.memory_kib < 8 * self.lanes:
            raise VaultDamaged("a key slot asks for an impossible key derivation", hint="restore a backup")


RFC_9106_LOW_MEMORY = KdfParams(memory_kib=64 * 1024, iterations=3, lanes=4)  # the floor for new slots
TESTING_ONLY = KdfParams(memory_kib=64, iterations=1, lanes=1)


def normalised(passphrase: str) -> bytes:
    """NFC and UTF-8, so that one phrase is one key on every keyboard; raises UsageError."""
    if not passphrase:
        raise UsageError(
            "the passphrase is empty", hint="a few random words are easy to keep and hard to guess"
        )
    try:
        data = unicodedata.normalize("NFC", passphrase).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError("the passphrase is not valid Unicode", hint="type it again") from error
    if len(data) > MAX_PASSPHRASE_BYTES:
        raise UsageError("the passphrase is longer than 1 MiB", hint="use a key file")
    return data


def stretch(secret: bytes, salt: bytes, params: KdfParams) -> bytes:
    """Argon2id, 32 bytes.  Source: RFC 9106."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    kdf = Argon2id(
        salt=salt,
        length=KEY_BYTES,
        iterations=params.iterations,
        lanes=params.lanes,
        memory_cost=params.memory_kib,
    )
    return kdf.derive(secret)


def hkdf(key: bytes, *, salt: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256.  Source: RFC 5869."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(key)


def index_key(master: bytes, vault_id: bytes) -> bytes:
    """The raw key of index.db."""
    return hkdf(master, salt=vault_id, info=b"fluxctx/v1/index-key")


def metadata_key(item_key: bytes, item_id: bytes) -> bytes:
    """The key of an item's sealed metadata; its parts have keys of their own."""
    return hkdf(item_key, salt=item_id, info=b"fluxctx/v1/metadata-key")


def seal(key: bytes, context: bytes, data: bytes) -> bytes:
    """AES-256-GCM with a random nonce in front; `context` is authenticated and not stored."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data, context)


def open_sealed(key: bytes, context: bytes, box: bytes) -> bytes:
    """Undo `seal`; raises IntegrityError."""
    if len(box) < NONCE_BYTES + TAG_BYTES:
        raise IntegrityError("a sealed box is too short")
    try:
        return AESGCM(key).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], context)
    except InvalidTag as error:
        raise IntegrityError("a sealed box failed authentication") from error


class SegmentCipher:
    """AES-256-GCM over the segments of a stream; nonces are the stream's business."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt_into(self, nonce: bytes, data: bytes | memoryview, out: memoryview) -> None:
        """Write ciphertext and tag into `out`, which is TAG_BYTES longer than `data`."""
        self._cipher.encrypt_into(nonce, data, None, out)

    def decrypt(self, nonce: bytes, data: bytes) -> bytes:
        """Open one segment; raises IntegrityError."""
        try:
            return self._cipher.decrypt(nonce, data, None)
        except InvalidTag as error:
            raise IntegrityError("a segment failed authentication") from error


def keyed_digest(key: bytes, purpose: bytes, data: bytes) -> bytes:
    """HMAC-SHA256 under a key of its own for each purpose."""
    return hmac.digest(hkdf(key, salt=b"", info=b"fluxctx/v1/digest/" + purpose), data, "sha256")


def same(a: bytes, b: bytes) -> bool:
    """Constant-time equality."""
    return hmac.compare_digest(a, b)


def public_key(seed: bytes) -> bytes:
    """The 32-byte Ed25519 public key of a 32-byte seed.  Source: RFC 8032."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, message: bytes) -> bytes:
    """The 64-byte Ed25519 signature of `message`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is `key`'s over `message`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
