"""The index's schema moves forward one step at a time, whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlcipher3
from sqlite_utils import Database

from fluxctx.errors import VaultNewer
from fluxctx.vault import index
from fluxctx.vault.index import Index
from fluxctx.vault.migrations import STEPS, migrate

KEY = b"k" * 32


def add_tag(database: Database) -> None:
    database["items"].add_column("tag", str)


def rename_tag(database: Database) -> None:
    database["items"].transform(rename={"tag": "label"})


def break_halfway(database: Database) -> None:
    add_tag(database)
    raise RuntimeError("a bug in a step")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Index(tmp_path / "index.db", KEY, create=True).close()
    return tmp_path / "index.db"


def connect(path: Path) -> sqlcipher3.Connection:
    return index._connect(path, KEY)


def shape(path: Path) -> tuple[int, set[str]]:
    db = connect(path)
    columns = {row[1] for row in db.execute("PRAGMA table_info(items)")}
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.close()
    return version, columns


def test_the_version_that_commands_compare_with_is_the_last_step() -> None:
    assert len(STEPS) == index.SCHEMA_VERSION


def test_an_older_index_opens_with_its_rows_and_the_new_columns(path: Path) -> None:
    db = connect(path)
    db.execute(
        "INSERT INTO items (id, cell, version, kind, created, expires, size, mime, metadata) "
        "VALUES (x'01', 0, 1, 'output', 1, 2, 3, 'image/png', x'02')"
    )
    assert migrate(db, (*STEPS, add_tag, rename_tag)) == 2
    assert db.execute("SELECT id, cell, label FROM items").fetchall() == [(b"\x01", 0, None)]
    db.close()
    version, columns = shape(path)
    assert (version, "label" in columns, "tag" in columns) == (3, True, False)


def test_a_step_that_fails_leaves_the_version_before_it(path: Path) -> None:
    before = shape(path)
    db = connect(path)
    with pytest.raises(RuntimeError):
        migrate(db, (*STEPS, break_halfway))
    db.close()
    assert shape(path) == before


def test_two_processes_that_migrate_at_once_take_each_step_once(path: Path) -> None:
    connections = [connect(path) for _ in range(4)]
    taken: list[int] = []
    threads = [
        threading.Thread(target=lambda db=db: taken.append(migrate(db, (*STEPS, add_tag))))
        for db in connections
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for db in connections:
        db.close()
    assert sorted(taken) == [0, 0, 0, 1]


def test_opening_an_older_index_migrates_it_and_an_older_program_then_refuses_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(index, "SCHEMA_VERSION", 2)
        newer.setattr("fluxctx.vault.migrations.migrate.__defaults__", ((*STEPS, add_tag),))
        Index(path, KEY).close()
    assert shape(path)[0] == 2
    with pytest.raises(VaultNewer):
        Index(path, KEY)
