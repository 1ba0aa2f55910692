"""`vault.json` and the making of an empty vault.  Source: spec vault-v1, sections 3 and 4."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

from fluxctx.domain import VaultId
from fluxctx.errors import NotFound, VaultDamaged, VaultNewer
from fluxctx.vault import crypto, unlocking
from fluxctx.vault.cells import create_keys_file, storage_errors, sync_directory
from fluxctx.vault.crypto import RFC_9106_LOW_MEMORY, KdfParams
from fluxctx.vault.index import Index
from fluxctx.vault.paths import VaultPaths
from fluxctx.vault.sweep import milliseconds

FORMAT = "fluxctx.vault/1"
FIELDS = {"format", "vault_id", "features", "created_at", "sha256"}


def create_vault(
    paths: VaultPaths,
    vault_id: VaultId,
    secret: unlocking.Secret,
    *,
    kdf: KdfParams,
    now: datetime,
    allow_testing_kdf: bool = False,
) -> None:
    """Make an empty vault that one secret opens.

    Raises ValueError for weaker stretching than RFC 9106's second choice, unless a test asks for it.
    """
    floor = RFC_9106_LOW_MEMORY
    if (kdf.memory_kib < floor.memory_kib or kdf.iterations < floor.iterations) and not allow_testing_kdf:
        raise ValueError("weaker than the floor of RFC 9106")
    raw_id, master = bytes.fromhex(vault_id), secrets.token_bytes(unlocking.MASTER_BYTES)
    with storage_errors():
        for directory in (paths.data / "blobs", paths.state):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = create_keys_file(paths.keys, raw_id)
    slot = unlocking.wrap(master, secret, raw_id, created_ms=milliseconds(now), kdf=kdf)
    Index(paths.index, crypto.index_key(master, raw_id), create=True).close()
    write_new(paths.header, render(vault_id, now))
    keys.add_key_slot(slot)  # last: a vault that opens is complete
    keys.close()


def render(vault_id: str, created_at: datetime) -> bytes:
    """The public header, with a digest over its canonical form."""
    header = {"format": FORMAT, "vault_id": vault_id, "features": [], "created_at": created_at.isoformat()}
    return json.dumps(header | {"sha256": digest(header)}, indent=1).encode() + b"\n"


def digest(header: dict[str, Any]) -> str:
    body = {key: value for key, value in header.items() if key != "sha256"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_new(path: Path, data: bytes) -> None:
    """Write a small public file once, durably."""
    with storage_errors():
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)


def read_header(paths: VaultPaths) -> str:
    """The vault's id; raises NotFound, VaultDamaged, VaultNewer."""
    damaged = VaultDamaged("the vault's header is damaged", hint="restore a backup")
    try:
        header = json.loads(paths.header.read_bytes())
        text = (header["format"], header["vault_id"], header["sha256"])
    except FileNotFoundError:
        raise NotFound("there is no vault here", hint="fluxctx init makes one") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged from error
    if not all(isinstance(word, str) for word in text):
        raise damaged
    newer = VaultNewer("the vault was made by a newer version", hint="update fluxctx; nothing was changed")
    if header["format"] != FORMAT and header["format"].startswith("fluxctx.vault/"):
        raise newer  # its digest may be another one
    if header["format"] != FORMAT or header["sha256"] != digest(header):
        raise damaged
    if header.get("features") or set(header) != FIELDS:
        raise newer
    if len(header["vault_id"]) != 32 or any(c not in "0123456789abcdef" for c in header["vault_id"]):
        raise damaged
    return str(header["vault_id"])
