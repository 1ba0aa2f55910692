"""index.db: SQLCipher with a raw key.  It only suggests; the key slot decides.  Source: spec vault-v1, section 8."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlcipher3

from fluxctx.errors import Busy, DiskFull, HomeReadOnly, StorageFailed, VaultDamaged, VaultNewer

SCHEMA_VERSION = 1  # len(migrations.STEPS), which is too slow to import for every command
PRAGMAS = (
    "PRAGMA cipher_log_level = NONE",  # it prints bad pages to stderr otherwise
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA busy_timeout = 10000",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; times are Unix milliseconds."""

    seq: int
    id: bytes
    cell: int
    version: int
    kind: str
    created_ms: int
    expires_ms: int
    size_bytes: int
    mime: str
    metadata: bytes


COLUMNS = "seq, id, cell, version, kind, created, expires, size, mime, metadata"


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn SQLite's words into ours; they may hold paths."""
    try:
        yield
    except sqlcipher3.dbapi2.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise Busy("the index is busy", hint="try again in a moment") from error
        if "full" in text:
            raise DiskFull("no space is left", hint="`fluxctx purge` works on a full disk") from error
        if "readonly" in text or "unable to open" in text:
            raise HomeReadOnly(
                "the index cannot be written", hint="check the home's mode and mount"
            ) from error
        raise StorageFailed(
            "the index could not be read or written", hint="see `fluxctx vault verify`"
        ) from error
    except sqlcipher3.dbapi2.DatabaseError as error:
        raise VaultDamaged(
            "the index is damaged", hint="restore a backup, or see `fluxctx vault verify`"
        ) from error


def _connect(path: Path, key: bytes, *, alone: bool = False) -> Any:
    """Open and key a connection.  `alone` needs no shared-memory file, which a full disk has no room for."""
    db = sqlcipher3.connect(str(path), isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        if alone:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
        for pragma in PRAGMAS:
            db.execute(pragma)
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        db.close()
        raise
    return db


class Index:
    """One connection.  Every write is a transaction that is on the disk when it returns."""

    def __init__(self, path: Path, key: bytes, *, create: bool = False) -> None:
        if not create and not path.exists():
            raise VaultDamaged("the index is missing", hint="restore a backup")
        if create:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with database_errors():
            try:
                self.db = _connect(path, key)
            except sqlcipher3.dbapi2.OperationalError as error:
                if "disk I/O" not in str(error) or os.statvfs(path.parent).f_bavail > 16:
                    raise
                self.db = _connect(path, key, alone=True)
            try:
                self._check(create=create)
            except BaseException:
                self.db.close()
                raise

    def _check(self, *, create: bool) -> None:
        """Migrate an older schema; refuse a newer one and a connection that could spill plaintext."""
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise VaultNewer(
                "the vault was made by a newer version", hint="update fluxctx; nothing was changed"
            )
        if version == 0 and not create:
            raise VaultDamaged("the index has no schema", hint="restore a backup")
        if version < SCHEMA_VERSION:
            from fluxctx.vault.migrations import migrate

            migrate(self.db)
        (temporary,) = self.db.execute("PRAGMA temp_store").fetchone()
        if temporary != 2:
            raise StorageFailed("the index would write temporary files", hint="reinstall sqlcipher3")

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with database_errors():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def rows(
        self, where: str = "1", values: Sequence[Any] = (), *, limit: int = -1, newest: bool = True
    ) -> list[Row]:
        """Rows by a condition of ours (never of a user's)."""
        order = "DESC" if newest else "ASC"
        query = f"SELECT {COLUMNS} FROM items WHERE {where} ORDER BY seq {order} LIMIT ?"  # noqa: S608
        with database_errors():
            found = self.db.execute(query, (*values, limit)).fetchall()
        return [
            Row(
                seq=r[0], id=r[1], cell=r[2], version=r[3], kind=r[4],
                created_ms=r[5], expires_ms=r[6], size_bytes=r[7], mime=r[8], metadata=r[9],
            )
            for r in found
        ]  # fmt: skip

    def insert(self, rows: Sequence[Row]) -> None:
        """Several rows in one commit."""
        with self.transaction() as db:
            db.executemany(
                "INSERT INTO items (id, cell, version, kind, created, expires, size, mime, metadata)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        r.id,
                        r.cell,
                        r.version,
                        r.kind,
                        r.created_ms,
                        r.expires_ms,
                        r.size_bytes,
                        r.mime,
                        r.metadata,
                    )
                    for r in rows
                ],
            )

    def renew(self, item_id: bytes, version: int, expires_ms: int) -> None:
        """Follow a slot's new end."""
        with self.transaction() as db:
            db.execute(
                "UPDATE items SET version = ?, expires = ? WHERE id = ?", (version, expires_ms, item_id)
            )

    def delete(self, ids: Sequence[bytes]) -> None:
        """By id, never by condition: a condition would race with other processes."""
        with self.transaction() as db:
            db.executemany("DELETE FROM items WHERE id = ?", [(item_id,) for item_id in ids])
        with database_errors():
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def secret(self, name: str, fresh: bytes) -> bytes:
        """The secret of this name; `fresh` becomes it where there is none."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO secrets (name, value) VALUES (?, ?)", (name, fresh))
            (value,) = db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
        return bytes(value)

    def known_secret(self, name: str) -> bytes | None:
        with database_errors():
            found = self.db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
        return bytes(found[0]) if found else None
