"""The index's schema, one step a version, with sqlite-utils over the SQLCipher connection.

A step changes tables only; `migrate` makes it and the new version one transaction, so that a crash leaves the
old schema or the new one.  Released steps never change: a home of any earlier version opens in this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlite_utils import Database  # noqa: TID253 - this module is imported by nobody but who migrates

Step = Callable[[Database], None]

FIRST_SCHEMA: Final = (
    """CREATE TABLE items (
  seq      INTEGER PRIMARY KEY AUTOINCREMENT,
  id       BLOB NOT NULL UNIQUE,
  cell     INTEGER NOT NULL,
  version  INTEGER NOT NULL,
  kind     TEXT NOT NULL,
  created  INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  size     INTEGER NOT NULL,
  mime     TEXT NOT NULL,
  metadata BLOB NOT NULL
)""",
    "CREATE INDEX items_kind ON items (kind, seq)",
    "CREATE INDEX items_expires ON items (expires)",
    "CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)


def _items_and_secrets(database: Database) -> None:
    for statement in FIRST_SCHEMA:
        database.execute(statement)


STEPS: Final[Sequence[Step]] = (_items_and_secrets,)


def migrate(connection: Any, steps: Sequence[Step] = STEPS) -> int:
    """Bring an open index to the version that `steps` end in; two processes may try at once.

    Returns:
        How many steps were taken.
    """
    database = Database(connection, execute_plugins=False)
    taken = 0
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version < len(steps):
                steps[version](database)
                connection.execute(f"PRAGMA user_version = {version + 1}")
                taken += 1
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        if version + 1 >= len(steps):
            return taken
