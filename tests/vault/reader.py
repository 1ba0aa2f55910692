"""A second reader of the vault, written from docs/spec/vault-v1.md: what a third party would write."""

from __future__ import annotations

import hashlib
import json
import struct
import unicodedata
from pathlib import Path
from typing import Any

import sqlcipher3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Damaged(Exception):
    """A check, a digest or a tag is wrong."""


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(key)


def check(vault_id: bytes, position: int, data: bytes) -> bytes:
    return hashlib.sha256(b"fluxctx/v1/check\0" + vault_id + struct.pack("<Q", position) + data).digest()[:8]


class Reader:
    """Opens a vault with a passphrase; `items()` and `part()` are all it can do."""

    def __init__(self, data: Path, state: Path, passphrase: str) -> None:
        self.data = data
        header = json.loads((data / "vault.json").read_text())
        body = {key: value for key, value in header.items() if key != "sha256"}
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if hashlib.sha256(canonical).hexdigest() != header["sha256"] or header["format"] != "fluxctx.vault/1":
            raise Damaged("vault.json")
        self.id = bytes.fromhex(header["vault_id"])
        self.keys = (state / "keys").read_bytes()
        if self.keys[:32] != b"fluxctx-keys-v1\n" + self.id or self.keys[504:512] != check(
            self.id, 0, self.keys[:504]
        ):
            raise Damaged("keys")
        self.master = self._open_master(unicodedata.normalize("NFC", passphrase).encode())
        raw = hkdf(self.master, self.id, b"fluxctx/v1/index-key")
        self.db = sqlcipher3.connect(str(data / "index.db"))
        self.db.execute(f"PRAGMA key = \"x'{raw.hex()}'\"")

    def _open_master(self, material: bytes) -> bytes:
        for number in range(63):
            start = 512 * (number + 1)
            slot = self.keys[start : start + 512]
            if not any(slot) or slot[1] != 1:
                continue
            if slot[504:] != check(self.id, start, slot[:504]):
                raise Damaged("key slot")
            memory, iterations, lanes = struct.unpack("<III", slot[36:48])
            salt = slot[48:64]
            stretched = Argon2id(
                salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory
            ).derive(material)
            if hkdf(stretched, salt, b"fluxctx/v1/key-commitment") != slot[124:156]:
                continue
            context = b"fluxctx/v1/master-key\0" + self.id + slot[4:20] + slot[1:2] + slot[20:48] + salt
            wrapping = hkdf(stretched, salt, b"fluxctx/v1/wrapping-key")
            return AESGCM(wrapping).decrypt(slot[64:76], slot[76:124], context)
        raise Damaged("no slot opens")

    def cell(self, number: int) -> bytes | None:
        """The 128 bytes that are the item, or None."""
        best = None
        for start in (32768 + 256 * number, 32768 + 256 * number + 128):
            slot = self.keys[start : start + 128]
            if not any(slot):
                continue
            if slot[120:] != check(self.id, start, slot[:2] + b"\0" + slot[3:120]):
                continue
            if slot[0] == 2:
                return None
            if best is None or slot[4:8][::-1] > best[4:8][::-1]:
                best = slot
        return best

    def item_key(self, slot: bytes) -> bytes:
        wrap = hkdf(self.master, self.id, b"fluxctx/v1/item-wrap-key")
        context = b"fluxctx/v1/item-key\0" + self.id + slot[8:24] + slot[4:8] + slot[24:40]
        return AESGCM(wrap).decrypt(slot[40:52], slot[52:100], context)

    def items(self) -> dict[str, dict[str, Any]]:
        """Metadata of every living item by id."""
        found = {}
        for item_id, cell, metadata in self.db.execute("SELECT id, cell, metadata FROM items ORDER BY seq"):
            slot = self.cell(cell)
            if slot is None or slot[8:24] != item_id:
                continue
            key = hkdf(self.item_key(slot), item_id, b"fluxctx/v1/metadata-key")
            context = self.context(item_id, "item", "metadata")
            found[item_id.hex()] = json.loads(AESGCM(key).decrypt(metadata[:12], metadata[12:], context))
        return found

    def context(self, item_id: bytes, kind: str, part: str) -> bytes:
        words = b"".join(bytes([len(word)]) + word.encode() for word in (kind, part))
        return b"fluxctx/v1/part\0" + self.id + item_id + words

    def part(self, item: str, part: str) -> bytes:
        raw = bytes.fromhex(item)
        cell, kind = self.db.execute("SELECT cell, kind FROM items WHERE id = ?", (raw,)).fetchone()
        slot = self.cell(cell)
        assert slot is not None
        sealed = (self.data / "blobs" / item[:2] / f"{item}.{part}").read_bytes()
        assert sealed[0] == 40
        key = hkdf(self.item_key(slot), sealed[1:33], self.context(raw, kind, part))
        plain, position, counter = b"", 40, 0
        while position < len(sealed):
            end = min((counter + 1) << 20, len(sealed))
            nonce = sealed[33:40] + struct.pack(">IB", counter, end == len(sealed))
            plain += AESGCM(key).decrypt(nonce, sealed[position:end], None)
            position, counter = end, counter + 1
        return plain
