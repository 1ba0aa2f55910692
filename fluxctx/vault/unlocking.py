"""Key slots: each wraps the master key under one secret.  Source: spec vault-v1, section 4."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace

from fluxctx.errors import IntegrityError, UsageError, VaultDamaged, WrongPassphrase
from fluxctx.vault import crypto
from fluxctx.vault.cells import KeysFile
from fluxctx.vault.crypto import KdfParams
from fluxctx.vault.format import KeySlot, SlotKind

MASTER_BYTES = 32
KEYFILE_MIN_BYTES = 32
TARGET_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What somebody opens a vault with."""

    kind: SlotKind
    material: bytes = field(repr=False)


def passphrase(text: str) -> Secret:
    return Secret(kind=SlotKind.PASSPHRASE, material=crypto.normalised(text))


def key_file(content: bytes) -> Secret:
    """A key file of at least 32 random bytes; it is not stretched."""
    if len(content) < KEYFILE_MIN_BYTES:
        raise UsageError(
            "the key file is shorter than 32 bytes", hint="`fluxctx vault keyfile PATH` makes one"
        )
    return Secret(kind=SlotKind.KEYFILE, material=content)


def recovery_phrase(words: str) -> Secret:
    """24 words of BIP-39, checked by their own checksum."""
    from mnemonic import Mnemonic

    text = " ".join(words.lower().split())
    if not Mnemonic("english").check(text):
        raise WrongPassphrase("that is not a recovery phrase", hint="24 words; check each against your paper")
    return Secret(kind=SlotKind.RECOVERY, material=text.encode())


def new_recovery_phrase() -> str:
    """256 random bits as 24 words."""
    from mnemonic import Mnemonic

    words: str = Mnemonic("english").to_mnemonic(secrets.token_bytes(32))
    return words


def wrap(
    master: bytes, secret: Secret, vault_id: bytes, *, created_ms: int, kdf: KdfParams, label: str = ""
) -> KeySlot:
    """Wrap the master key for one secret, with a commitment to the wrapping key (GCM has none of its own)."""
    stretched = secret.kind in (SlotKind.PASSPHRASE,)
    slot = KeySlot(
        kind=secret.kind,
        slot_id=secrets.token_bytes(16),
        created_ms=created_ms,
        memory_kib=kdf.memory_kib if stretched else 0,
        iterations=kdf.iterations if stretched else 0,
        lanes=kdf.lanes if stretched else 0,
        salt=secrets.token_bytes(16),
        label=label,
    )
    wrapping, commitment = derive(slot, secret)
    box = crypto.seal(wrapping, slot.context(vault_id), master)
    return replace(slot, nonce=box[:12], wrapped=box[12:], commitment=commitment)


def derive(slot: KeySlot, secret: Secret) -> tuple[bytes, bytes]:
    """(wrapping key, commitment) of a slot for a secret; KDF parameters are bounded before memory is taken."""
    material = secret.material
    if slot.kind is SlotKind.PASSPHRASE:
        params = KdfParams(memory_kib=slot.memory_kib, iterations=slot.iterations, lanes=slot.lanes)
        material = crypto.stretch(material, slot.salt, params)
    wrapping = crypto.hkdf(material, salt=slot.salt, info=b"fluxctx/v1/wrapping-key")
    commitment = crypto.hkdf(material, salt=slot.salt, info=b"fluxctx/v1/key-commitment")
    return wrapping, commitment


def unwrap(slot: KeySlot, secret: Secret, vault_id: bytes) -> bytes | None:
    """The master key, or None where this slot belongs to another secret; raises VaultDamaged."""
    wrapping, commitment = derive(slot, secret)
    if not crypto.same(commitment, slot.commitment):
        return None
    try:
        return crypto.open_sealed(wrapping, slot.context(vault_id), slot.nonce + slot.wrapped)
    except IntegrityError as error:
        raise VaultDamaged("a key slot was altered", hint="another slot may still open the vault") from error


def open_master(keys: KeysFile, secret: Secret, *, now_ms: int) -> bytes:
    """Try every slot of the secret's kind; raises WrongPassphrase, VaultDamaged."""
    trouble: VaultDamaged | None = None
    slots = [slot for _, slot in keys.key_slots() if slot.kind is secret.kind]
    for slot in slots:
        if slot.ends_ms and slot.ends_ms <= now_ms:
            continue
        try:
            master = unwrap(slot, secret, keys.vault_id)
        except VaultDamaged as error:
            trouble = error
            continue
        if master is not None:
            return master
    if trouble is not None:
        raise trouble
    if not slots and keys.damaged_key_slots():
        raise VaultDamaged("the key slots are damaged", hint="restore a backup")
    raise WrongPassphrase(
        "wrong passphrase", hint="nothing was changed; a recovery phrase or key file opens it too"
    )


def add(keys: KeysFile, master: bytes, secret: Secret, *, now_ms: int, kdf: KdfParams) -> int:
    """Write a slot for one more secret and open it again from the disk before it counts; returns its number."""
    number = keys.add_key_slot(wrap(master, secret, keys.vault_id, created_ms=now_ms, kdf=kdf))
    slot = dict(keys.key_slots()).get(number)
    if slot is None or unwrap(slot, secret, keys.vault_id) != master:
        keys.remove_key_slot(number)
        raise VaultDamaged("the new key slot does not open", hint="nothing was changed; check the disk")
    return number


def replace_kind(keys: KeysFile, master: bytes, secret: Secret, *, now_ms: int, kdf: KdfParams) -> list[int]:
    """Add a slot for the secret, then overwrite every older slot of its kind; returns the numbers of those."""
    new = add(keys, master, secret, now_ms=now_ms, kdf=kdf)
    old = [number for number, slot in keys.key_slots() if slot.kind is secret.kind and number != new]
    for number in old:
        keys.remove_key_slot(number)
    return old


def calibrated(seconds: float = TARGET_S) -> KdfParams:
    """Argon2id parameters that take about a second here, never below RFC 9106's second choice."""
    floor = crypto.RFC_9106_LOW_MEMORY
    began = time.perf_counter()
    crypto.stretch(b"calibration", bytes(16), floor)
    took = max(1e-3, time.perf_counter() - began)
    memory = floor.memory_kib
    while memory < 1024 * 1024 and took * 2 <= seconds * 1.3:
        memory, took = memory * 2, took * 2
    return KdfParams(memory_kib=memory, iterations=floor.iterations, lanes=floor.lanes)
