"""Put, get, end: what the vault keeps, and what it lets go."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from fluxctx.domain import Death
from fluxctx.errors import DiskFull, ItemGone, ItemNotFound, NotFound, VaultDamaged, WrongPassphrase
from fluxctx.vault import unlocking
from fluxctx.vault.check import verify
from fluxctx.vault.crypto import TESTING_ONLY
from fluxctx.vault.format import CELLS_AT
from fluxctx.vault.streaming import FIRST_PLAIN, PLAIN
from tests.vault.places import NOW, PASSPHRASE, Place, new, put
from tests.vault.reader import Damaged, Reader

DAY = timedelta(days=1)


@pytest.mark.parametrize("size", [0, 1, 1000, FIRST_PLAIN, FIRST_PLAIN + 1, FIRST_PLAIN + PLAIN, 3 << 20])
def test_what_was_put_comes_back_and_another_reader_agrees(place: Place, size: int) -> None:
    content = os.urandom(size)
    with place.open() as vault:
        item = put(vault, content)
        assert vault.read(item.id, now=NOW) == content
        assert vault.read(item.id, now=NOW, start=size // 3, length=77) == content[size // 3 :][:77]
        assert vault.metadata(item.id, now=NOW)["recipe"]["prompt"] == "a red apple"
    other = Reader(place.paths.data, place.paths.state, PASSPHRASE)
    assert other.items()[item.id]["recipe"]["prompt"] == "a red apple"
    assert other.part(item.id, "original") == content
    assert other.part(item.id, "thumbnail") == b"small " + content[:16]


def test_a_wrong_passphrase_opens_nothing_and_nfd_is_nfc(tmp_path: Path) -> None:
    place = Place(tmp_path / "v").create("schl\u00fcssel")
    place.open("schlu\u0308ssel").close()
    with pytest.raises(WrongPassphrase):
        place.open("schlussel")
    with pytest.raises(Damaged):
        Reader(place.paths.data, place.paths.state, "schlussel")


def test_a_purged_item_is_gone_for_every_reader_and_its_cell_serves_again(place: Place) -> None:
    with place.open() as vault:
        kept, gone = put(vault, b"kept"), put(vault, b"gone")
        deaths: list[Death] = []
        vault.purge([gone.id], now=NOW, on_deaths=deaths.extend)
        assert [death.id for death in deaths] == [gone.id]
        with pytest.raises(ItemNotFound):
            vault.read(gone.id, now=NOW)
        assert vault.read(kept.id, now=NOW) == b"kept"
        put(vault, b"next")
    assert list(place.paths.data.rglob(f"{gone.id}*")) == []
    assert gone.id not in Reader(place.paths.data, place.paths.state, PASSPHRASE).items()
    assert bytes.fromhex(gone.id) not in place.paths.keys.read_bytes()


def test_a_copy_of_the_data_made_before_a_purge_opens_nothing_of_it(place: Place, tmp_path: Path) -> None:
    with place.open() as vault:
        item = put(vault)
        vault.index.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(place.paths.data, tmp_path / "old")
    with place.open() as vault:
        vault.purge([item.id], now=NOW)
    shutil.rmtree(place.paths.data)
    shutil.copytree(tmp_path / "old", place.paths.data)
    with place.open() as vault, pytest.raises(ItemGone):
        vault.read(item.id, now=NOW)
    assert Reader(place.paths.data, place.paths.state, PASSPHRASE).items() == {}


def test_expiry_needs_no_passphrase_and_closes_before_the_sweep(place: Place) -> None:
    with place.open() as vault:
        item, other = put(vault, days=1), put(vault, days=3)
        with pytest.raises(ItemGone):
            vault.read(item.id, now=NOW + 2 * DAY)
    deaths: list[Death] = []
    place.sweep(NOW)
    result = place.sweep(NOW + 2 * DAY, deaths=deaths)
    assert [death.id for death in result.deaths] == [item.id] == [death.id for death in deaths]
    assert list(place.paths.data.rglob(f"{item.id}*")) == []
    with place.open(now=NOW + 2 * DAY) as vault:
        vault.settle(result.unsettled, now=NOW + 2 * DAY)
        with pytest.raises(ItemNotFound):
            vault.get(item.id, now=NOW)
        assert vault.read(other.id, now=NOW + 2 * DAY)


def test_a_clock_that_goes_back_revives_nothing(place: Place) -> None:
    with place.open() as vault:
        item = put(vault, days=3)
        place.sweep(NOW)
        place.sweep(NOW + 2 * DAY)
        put(vault, b"young", days=1)  # its end is before the high water
        with pytest.raises(ItemGone):
            vault.read(_expired(vault), now=NOW - DAY)
        assert vault.read(item.id, now=NOW - DAY)


def _expired(vault: object) -> str:
    return next(row.id.hex() for row in vault.index.rows() if row.size_bytes == 5)  # type: ignore[attr-defined]


def test_a_jump_of_the_clock_closes_at_once_and_kills_only_after_a_second_opinion(place: Place) -> None:
    with place.open() as vault:
        item = put(vault, days=10)
    place.sweep(NOW, running_s=0)
    jump = NOW + 20 * DAY
    assert place.sweep(jump, running_s=10).closed == 1
    assert place.sweep(jump + timedelta(minutes=30), running_s=1810).deaths == ()
    with place.open() as vault, pytest.raises(ItemGone):
        vault.read(item.id, now=jump)
    second = place.sweep(jump + timedelta(hours=1, seconds=10), running_s=3620)
    assert [death.id for death in second.deaths] == [item.id]


def test_a_new_end_leaves_exactly_one_key(place: Place) -> None:
    with place.open() as vault:
        item = put(vault, days=1)
        vault.retain(item.id, NOW + 9 * DAY, now=NOW)
        (cell,) = [cell for _, cell in vault.keys.scan()]
        assert [slot is not None for slot in cell.slots].count(True) == 1
        assert vault.get(item.id, now=NOW).expires_at == NOW + 9 * DAY
        assert vault.read(item.id, now=NOW + 5 * DAY) == b"picture"
    assert Reader(place.paths.data, place.paths.state, PASSPHRASE).part(item.id, "original") == b"picture"


def test_a_crashed_put_dies_and_an_acknowledged_one_never(place: Place) -> None:
    with place.open() as vault:
        item = put(vault)
        vault.index.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        real = vault.index.insert
        vault.index.insert = lambda rows: os._exit(9)  # type: ignore[method-assign]
        child = os.fork()
        if child == 0:
            vault.put([new(b"crashed")], now=NOW)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        vault.index.insert = real  # type: ignore[method-assign]
    assert len(list(place.paths.data.rglob("*.original"))) == 2
    result = place.sweep()
    assert len(result.unsettled) == 1
    with place.open() as vault:
        deaths: list[Death] = []
        assert vault.settle(result.unsettled, now=NOW, on_deaths=deaths.extend) == 1
        assert [death.reason for death in deaths] == ["orphan"]
        assert vault.read(item.id, now=NOW) == b"picture"
        assert verify(vault, now=NOW) == (1, [])
    assert len(list(place.paths.data.rglob("*.original"))) == 1


def test_an_index_that_was_rolled_back_kills_nothing_and_is_reported(place: Place, tmp_path: Path) -> None:
    with place.open() as vault:
        put(vault)
    shutil.copy(place.paths.index, tmp_path / "older")
    with place.open() as vault:
        later = put(vault, b"later")
    for name in ("index.db-wal", "index.db-shm"):
        (place.paths.data / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "older", place.paths.index)
    result = place.sweep()
    with place.open() as vault:
        assert vault.settle(result.unsettled, now=NOW) == 0
        _, faults = verify(vault, now=NOW)
        assert [(fault.item, "older" in fault.fault) for fault in faults] == [(later.id, True)]
    assert list(place.paths.data.rglob(f"{later.id}.original"))


def test_keys_that_were_rolled_back_revive_nothing_and_are_reported(place: Place, tmp_path: Path) -> None:
    with place.open() as vault:
        gone = put(vault, b"gone")
    shutil.copy(place.paths.keys, tmp_path / "older")
    with place.open() as vault:
        vault.purge([gone.id], now=NOW)
        later = put(vault, b"later")
    shutil.copy(tmp_path / "older", place.paths.keys)
    with place.open() as vault:
        with pytest.raises((ItemGone, ItemNotFound)):
            vault.read(gone.id, now=NOW)
        assert {fault.item for fault in verify(vault, now=NOW)[1]} == {gone.id, later.id}


def test_keys_of_another_vault_are_refused(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other").create()
    shutil.copy(other.paths.keys, place.paths.keys)
    with pytest.raises(VaultDamaged):
        place.open()
    place.paths.keys.unlink()
    with pytest.raises(VaultDamaged):
        place.open()
    shutil.rmtree(place.paths.data)
    with pytest.raises(NotFound):
        place.open()


def test_a_date_changed_on_disk_opens_nothing(place: Place) -> None:
    import struct

    from fluxctx.vault.checksums import check

    with place.open() as vault:
        item = put(vault, days=1)
        cell, vault_id = vault.index.rows()[0].cell, vault.vault_id
    data = bytearray(place.paths.keys.read_bytes())
    start = CELLS_AT + 256 * cell
    data[start + 32 : start + 40] = struct.pack("<q", int((NOW + 99 * DAY).timestamp() * 1000))
    body = bytes(data[start : start + 2]) + b"\0" + bytes(data[start + 3 : start + 120])
    data[start + 120 : start + 128] = check(vault_id, start, body)
    place.paths.keys.write_bytes(data)
    with place.open() as vault, pytest.raises(VaultDamaged):
        vault.read(item.id, now=NOW)


def test_a_new_passphrase_takes_the_place_of_the_old_one(place: Place) -> None:
    with place.open() as vault:
        put(vault)
        replaced = vault.replace_secret(unlocking.passphrase("another"), now=NOW, kdf=TESTING_ONLY)
        words = unlocking.new_recovery_phrase()
        vault.add_secret(unlocking.recovery_phrase(words), now=NOW)
        vault.add_secret(unlocking.key_file(b"k" * 32), now=NOW)
    assert len(replaced) == 1
    with pytest.raises(WrongPassphrase):
        place.open()
    place.open("another").close()
    from fluxctx.vault.store import open_vault

    open_vault(place.paths, unlocking.recovery_phrase(words.upper()), now=NOW).close()
    open_vault(place.paths, unlocking.key_file(b"k" * 32), now=NOW).close()
    with pytest.raises(WrongPassphrase):
        open_vault(place.paths, unlocking.key_file(b"x" * 32), now=NOW)


def test_a_full_ledger_does_not_save_a_key(place: Place) -> None:
    def full(deaths: object) -> None:
        raise DiskFull("full")

    with place.open() as vault:
        item = put(vault)
        vault.purge([item.id], now=NOW, on_deaths=full)
        with pytest.raises((ItemGone, ItemNotFound)):
            vault.read(item.id, now=NOW)
    deaths: list[Death] = []
    place.sweep(NOW, deaths=deaths)
    assert [death.id for death in deaths] == [item.id], "the next sweep enters it"


def test_secrets_are_stable_named_and_sealed(place: Place) -> None:
    with place.open() as vault:
        first, second = vault.secret("a"), vault.secret("b")
        assert len(first) == 32
        assert first != second
        assert first not in vault.index.known_secret("a")  # type: ignore[operator]
    with place.open() as vault:
        assert vault.secret("a") == first


def test_sixteen_processes_lose_nothing(place: Place) -> None:
    """Mixed work beside sweeps; each process checks what it was promised."""
    script = Path(__file__).with_name("busy.py")
    jobs = [
        subprocess.Popen(
            [sys.executable, str(script), str(place.root), str(seed), "12"], stdout=subprocess.PIPE, text=True
        )
        for seed in range(16)
    ]
    kept: list[str] = []
    for job in jobs:
        out, _ = job.communicate(timeout=240)
        assert job.returncode == 0, out
        kept += out.split()
    result = place.sweep()
    with place.open() as vault:
        vault.settle(result.unsettled, now=NOW)
        assert sorted(item.id for item in vault.every(now=NOW)) == sorted(kept)
        assert verify(vault, now=NOW) == (len(kept), [])
