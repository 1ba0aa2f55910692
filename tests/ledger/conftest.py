from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fluxctx.ledger.store import Ledger, open_ledger
from tests.ledger.keys import LEDGER_ID, NOON, AccountKeys, item_id, verify


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "ledgers" / LEDGER_ID


@pytest.fixture
def unlocked(home: Path) -> Callable[[], Ledger]:
    """Open the account's ledger with its keys; a second call is a second process's view."""
    return lambda: open_ledger(home, AccountKeys(), verify=verify, sync=lambda _: None)


@pytest.fixture
def locked_out(home: Path) -> Callable[[], Ledger]:
    return lambda: open_ledger(home, None, verify=verify, sync=lambda _: None)


@pytest.fixture
def filled(unlocked: Callable[[], Ledger]) -> Ledger:
    """Twenty pictures, signed."""
    ledger = unlocked()
    for number in range(20):
        ledger.append(
            "generated",
            at=NOON,
            clear={"job": "job_00000000deadbeef", "item": item_id(number)},
            sealed={"output_sha256": f"{number:064x}", "guidance": 3.5},
        )
    ledger.checkpoint()
    return ledger
