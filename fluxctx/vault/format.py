"""The bytes of the `keys` file and of every associated data: pure.  Source: docs/spec/vault-v1.md."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from fluxctx.errors import VaultDamaged, VaultNewer
from fluxctx.vault.checksums import CHECKSUM_BYTES, check

KEYS_MAGIC: Final = b"fluxctx-keys-v1\n"
HEADER_BYTES: Final = 512
KEY_SLOT_BYTES: Final = 512
KEY_SLOTS: Final = 63
CELLS_AT: Final = HEADER_BYTES + KEY_SLOTS * KEY_SLOT_BYTES  # 32,768
CELL_BYTES: Final = 256
SLOT_BYTES: Final = 128
EMPTY_SLOT: Final = bytes(SLOT_BYTES)
GROWTH_CELLS: Final = 64  # 16 KiB at a time

BLOB_FORMAT: Final = b"AES256_GCM_HKDF_1MB"


class SlotState(IntEnum):
    """What an item slot says."""

    FREE = 0
    LIVE = 1
    DEAD = 2


class Reason(IntEnum):
    """Why an item died."""

    PURGED = 1
    EXPIRED = 2
    ORPHAN = 3
    DAMAGED = 4

    @property
    def word(self) -> str:
        return self.name.lower()


class SlotKind(IntEnum):
    """What opens a key slot."""

    PASSPHRASE = 1
    RECOVERY = 2
    KEYFILE = 3
    TOKEN = 4


# --- item slots (section 5) ---------------------------------------------------------------------------

SETTLED_AT: Final = 2
_ITEM: Final = struct.Struct("<BBBBI16sqq12s48s20s")  # 120 bytes, then the checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSlot:
    """One of a cell's two slots.  Times are Unix milliseconds.

    A live slot wraps the item's key; a dead one keeps id, time of death (in `created_ms`) and reason.
    `settled` is false until a live item's row is committed, or a dead one's death is entered and its blobs are gone.
    """

    state: SlotState
    item_id: bytes  # 16
    version: int = 0
    created_ms: int = 0
    expires_ms: int = 0
    nonce: bytes = bytes(12)
    wrapped: bytes = bytes(48)
    reason: int = 0
    settled: bool = True

    def render(self, vault_id: bytes, position: int) -> bytes:
        """The 128 bytes for a place in the file; the settled byte is not covered by the check."""
        body = _ITEM.pack(
            self.state,
            self.reason,
            0,
            0,
            self.version,
            self.item_id,
            self.created_ms,
            self.expires_ms,
            self.nonce,
            self.wrapped,
            bytes(20),
        )
        settled = body[:SETTLED_AT] + bytes([self.settled]) + body[SETTLED_AT + 1 :]
        return settled + check(vault_id, position, body)


def parse_item_slot(data: bytes, vault_id: bytes, position: int) -> ItemSlot | None:
    """Parse one slot; None for a free one; raises VaultDamaged when its checksum is wrong."""
    if data == EMPTY_SLOT:
        return None
    body, stored = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    covered = body[:SETTLED_AT] + b"\0" + body[SETTLED_AT + 1 :]
    if len(data) != SLOT_BYTES or check(vault_id, position, covered) != stored:
        raise VaultDamaged(
            "an item's key slot is damaged", hint="`fluxctx vault verify` says which; a sweep clears it"
        )
    state, reason, settled, zero, version, item_id, created, expires, nonce, wrapped, rest = _ITEM.unpack(
        body
    )
    if state not in (SlotState.LIVE, SlotState.DEAD) or rest != bytes(20) or zero or settled > 1:
        raise VaultDamaged("an item's key slot is malformed", hint="`fluxctx vault verify` says which")
    return ItemSlot(
        state=SlotState(state),
        item_id=item_id,
        version=version,
        created_ms=created,
        expires_ms=expires,
        nonce=nonce,
        wrapped=wrapped,
        reason=reason,
        settled=bool(settled),
    )


def dead_slot(item_id: bytes, at_ms: int, reason: Reason) -> ItemSlot:
    """The record that stands where a key was."""
    return ItemSlot(state=SlotState.DEAD, item_id=item_id, created_ms=at_ms, reason=reason, settled=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell as it stands: what its two slots say, and how many of them are damaged."""

    slots: tuple[ItemSlot | None, ItemSlot | None]
    damaged: tuple[bool, bool] = (False, False)

    @property
    def free(self) -> bool:
        return self.slots == (None, None) and not any(self.damaged)

    @property
    def dead(self) -> ItemSlot | None:
        """A cell with a dead slot is dead."""
        return next((slot for slot in self.slots if slot and slot.state is SlotState.DEAD), None)

    @property
    def item(self) -> ItemSlot | None:
        """The valid slot with the highest version, unless the cell is dead."""
        if self.dead is not None:
            return None
        live = [slot for slot in self.slots if slot is not None]
        return max(live, key=lambda slot: slot.version, default=None)

    @property
    def lost(self) -> bool:
        """Damaged and without any valid slot: its item can never be opened again."""
        return any(self.damaged) and self.slots == (None, None)


def parse_cell(data: bytes, vault_id: bytes, number: int) -> Cell:
    """Parse a cell's 256 bytes; damage is told, not raised, since the other slot may be whole."""
    slots: list[ItemSlot | None] = []
    damaged: list[bool] = []
    for start in (0, SLOT_BYTES):
        half = data[start : start + SLOT_BYTES]
        try:
            slots.append(parse_item_slot(half, vault_id, cell_at(number) + start))
            damaged.append(False)
        except VaultDamaged:
            slots.append(None)
            damaged.append(True)
    return Cell(slots=(slots[0], slots[1]), damaged=(damaged[0], damaged[1]))


def cell_at(number: int) -> int:
    """A cell's place in the file."""
    return CELLS_AT + number * CELL_BYTES


# --- key slots (section 4) ----------------------------------------------------------------------------

_KEY: Final = struct.Struct("<BBH16sqqIII16s12s48s32s64s")  # 220 bytes, zeros, then the checksum
_KEY_PADDING: Final = KEY_SLOT_BYTES - _KEY.size - CHECKSUM_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySlot:
    """The master key, wrapped under one secret, with a commitment to the wrapping key.

    Argon2id's cost is zero where no stretching is needed (key file, token).
    """

    kind: SlotKind
    slot_id: bytes  # 16
    created_ms: int
    ends_ms: int = 0  # 0: never
    memory_kib: int = 0
    iterations: int = 0
    lanes: int = 0
    salt: bytes  # 16
    nonce: bytes = bytes(12)
    wrapped: bytes = bytes(48)
    commitment: bytes = bytes(32)
    label: str = ""  # at most 64 bytes of UTF-8

    def render(self, vault_id: bytes, position: int) -> bytes:
        """The 512 bytes for a place in the file."""
        label = self.label.encode()[:64].ljust(64, b"\0")
        body = _KEY.pack(
            1,
            self.kind,
            0,
            self.slot_id,
            self.created_ms,
            self.ends_ms,
            self.memory_kib,
            self.iterations,
            self.lanes,
            self.salt,
            self.nonce,
            self.wrapped,
            self.commitment,
            label,
        ) + bytes(_KEY_PADDING)
        return body + check(vault_id, position, body)

    def context(self, vault_id: bytes) -> bytes:
        """Associated data of the wrapped master key."""
        numbers = struct.pack(
            "<BqqIII", self.kind, self.created_ms, self.ends_ms, self.memory_kib, self.iterations, self.lanes
        )
        return b"fluxctx/v1/master-key\0" + vault_id + self.slot_id + numbers + self.salt


def key_slot_at(number: int) -> int:
    """A key slot's place in the file."""
    return HEADER_BYTES + number * KEY_SLOT_BYTES


def parse_key_slot(data: bytes, vault_id: bytes, position: int) -> KeySlot | None:
    """Parse 512 bytes; None for a free slot; raises VaultDamaged."""
    if data == bytes(KEY_SLOT_BYTES):
        return None
    body, stored = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if (
        len(data) != KEY_SLOT_BYTES
        or check(vault_id, position, body) != stored
        or any(body[_KEY.size :])
        or (body[0], body[2:4]) != (1, b"\0\0")
    ):
        raise VaultDamaged(
            "a key slot is damaged", hint="another slot (recovery phrase, key file) may still open it"
        )
    values = _KEY.unpack(body[: _KEY.size])
    try:
        kind, label = SlotKind(values[1]), values[13].rstrip(b"\0").decode()
    except ValueError as error:
        raise VaultDamaged("a key slot is malformed", hint="another slot may still open the vault") from error
    return KeySlot(
        kind=kind,
        slot_id=values[3],
        created_ms=values[4],
        ends_ms=values[5],
        memory_kib=values[6],
        iterations=values[7],
        lanes=values[8],
        salt=values[9],
        nonce=values[10],
        wrapped=values[11],
        commitment=values[12],
        label=label,
    )


# --- header (section 3) ---------------------------------------------------------------------------------

_HEADER: Final = struct.Struct("<16s16sII")


def render_header(vault_id: bytes) -> bytes:
    """The first 512 bytes of `keys`."""
    body = _HEADER.pack(KEYS_MAGIC, vault_id, 1, 0).ljust(HEADER_BYTES - CHECKSUM_BYTES, b"\0")
    return body + check(vault_id, 0, body)


def parse_header(data: bytes) -> bytes:
    """The vault's id; raises VaultDamaged, VaultNewer."""
    if len(data) < HEADER_BYTES or check(data[16:32], 0, data[:-CHECKSUM_BYTES]) != data[-CHECKSUM_BYTES:]:
        raise VaultDamaged("the keys file's header is damaged", hint="restore a backup")
    magic, vault_id, version, flags = _HEADER.unpack_from(data)
    if magic != KEYS_MAGIC or version != 1 or flags != 0:
        raise VaultNewer("the vault was made by a newer version", hint="update fluxctx; nothing was changed")
    return bytes(vault_id)


# --- associated data ------------------------------------------------------------------------------------


def item_key_context(vault_id: bytes, slot: ItemSlot) -> bytes:
    """Associated data of a wrapped item key: a changed date opens nothing."""
    numbers = struct.pack("<Iqq", slot.version, slot.created_ms, slot.expires_ms)
    return b"fluxctx/v1/item-key\0" + vault_id + slot.item_id + numbers


def part_context(vault_id: bytes, item_id: bytes, kind: str, part: str) -> bytes:
    """Associated data of one blob or of the sealed metadata (part `metadata`)."""
    words = b"".join(bytes([len(word)]) + word.encode() for word in (kind, part))
    return b"fluxctx/v1/part\0" + vault_id + item_id + words
