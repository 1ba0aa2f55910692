"""Flip, cut, splice and kill: no wrong plaintext, no crash, one defined error each, nothing acknowledged lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from fluxctx.domain import Item
from fluxctx.errors import FluxctxError, IntegrityError, VaultDamaged, VaultNewer, WrongPassphrase
from fluxctx.vault.check import verify
from fluxctx.vault.format import CELLS_AT, HEADER_BYTES
from fluxctx.vault.streaming import FIRST_PLAIN, SEGMENT
from tests.vault.places import NOW, Place, new, put

CONTENT = b"the sealed picture " * 20


@pytest.fixture
def item(place: Place) -> Item:
    with place.open() as vault:
        return put(vault, CONTENT)


def outcome(place: Place, item: Item) -> bytes | type[FluxctxError]:
    """What opening the vault and reading everything gives: the plaintext or the error's class."""
    try:
        with place.open() as vault:
            assert vault.metadata(item.id, now=NOW)["recipe"]["prompt"] == "a red apple"
            assert vault.read(item.id, "thumbnail", now=NOW) == b"small " + CONTENT[:16]
            return vault.read(item.id, now=NOW)
    except FluxctxError as error:
        return type(error)


def flips(data: bytes, positions: list[int]) -> list[tuple[int, int]]:
    return [(position, bit) for position in positions for bit in range(8)]


def test_every_bit_of_the_header_is_guarded(place: Place, item: Item) -> None:
    good = place.paths.header.read_bytes()
    seen = set()
    for position, bit in flips(good, list(range(len(good)))):
        place.paths.header.write_bytes(
            good[:position] + bytes([good[position] ^ 1 << bit]) + good[position + 1 :]
        )
        seen.add(result := outcome(place, item))
        if result == CONTENT:  # white space between the words of JSON means nothing
            assert good[position : position + 1].isspace(), position
    assert seen <= {CONTENT, VaultDamaged, VaultNewer}
    for length in range(len(good) - 1):
        place.paths.header.write_bytes(good[:length])
        assert outcome(place, item) in {VaultDamaged, CONTENT}, length
        if length < len(good) - 2:
            assert outcome(place, item) is VaultDamaged


def test_every_bit_of_keys_that_matters_is_guarded(place: Place, item: Item) -> None:
    good = place.paths.keys.read_bytes()
    used = [*range(HEADER_BYTES), *range(HEADER_BYTES, HEADER_BYTES + 512), *range(CELLS_AT, CELLS_AT + 256)]
    harmless = set()
    for position, bit in flips(good, used):
        with place.paths.keys.open("r+b") as file:
            file.seek(position)
            file.write(bytes([good[position] ^ 1 << bit]))
        result = outcome(place, item)
        assert result == CONTENT or (isinstance(result, type) and issubclass(result, (FluxctxError,))), (
            position
        )
        if result == CONTENT:
            harmless.add(position)
        with place.paths.keys.open("r+b") as file:
            file.seek(position)
            file.write(good[position : position + 1])
    settled = {CELLS_AT + 2}
    other_slot = set(range(CELLS_AT + 128, CELLS_AT + 256))  # damage in the empty slot of a cell harms nobody
    assert harmless <= settled | other_slot
    assert outcome(place, item) == CONTENT


@pytest.mark.parametrize("file", ["keys", "index"])
def test_a_vault_that_does_not_open_leaves_no_descriptor_open(place: Place, item: Item, file: str) -> None:
    with getattr(place.paths, file).open("r+b") as damaged:
        damaged.write(b"\xff" * 64)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        assert outcome(place, item) != CONTENT
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("part", ["original", "thumbnail"])
def test_every_byte_of_a_sealed_file_is_guarded(place: Place, item: Item, part: str) -> None:
    path = place.paths.blob(bytes.fromhex(item.id), part)
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :])
        assert outcome(place, item) is VaultDamaged, position
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert outcome(place, item) is VaultDamaged, length
    path.write_bytes(good + b"\0")
    assert outcome(place, item) is VaultDamaged


def test_segments_swapped_dropped_doubled_or_cut_open_nothing(place: Place) -> None:
    with place.open() as vault:
        content = os.urandom(FIRST_PLAIN + 2 * SEGMENT)
        long = put(vault, content)
        path = place.paths.blob(bytes.fromhex(long.id), "original")
        good = path.read_bytes()
        pieces = [good[start : start + SEGMENT] for start in range(0, len(good), SEGMENT)]
        assert len(pieces) == 4
        for order in (
            [0, 2, 1, 3],
            [0, 1, 3],
            [0, 1, 1, 2, 3],
            [0, 1, 2],
            [1, 0, 2, 3],
            [0],
            [0, 1, 2, 3, 3],
        ):
            path.write_bytes(b"".join(pieces[number] for number in order))
            with pytest.raises(VaultDamaged):
                vault.read(long.id, now=NOW)
            for start in (0, FIRST_PLAIN, FIRST_PLAIN + SEGMENT):
                try:  # a range says nothing of other segments, but it is never wrong
                    assert vault.read(long.id, now=NOW, start=start, length=10) == content[start : start + 10]
                except VaultDamaged:
                    continue


def test_nothing_can_be_spliced_between_items_parts_or_vaults(
    place: Place, item: Item, tmp_path: Path
) -> None:
    twin = Place(tmp_path / "twin").create()
    with twin.open() as vault:
        stranger = put(vault, b"another vault's")
    with place.open() as vault:
        other = put(vault, b"another item")
    raw = bytes.fromhex(item.id)
    mine = place.paths.blob(raw, "original")
    good = mine.read_bytes()
    sources = [
        place.paths.blob(bytes.fromhex(other.id), "original"),
        place.paths.blob(raw, "thumbnail"),
        twin.paths.blob(bytes.fromhex(stranger.id), "original"),
    ]
    for source in sources:
        shutil.copy(source, mine)
        assert outcome(place, item) is VaultDamaged
    mine.write_bytes(good)
    keys = bytearray(place.paths.keys.read_bytes())
    keys[CELLS_AT : CELLS_AT + 512] = keys[CELLS_AT + 256 : CELLS_AT + 512] + keys[CELLS_AT : CELLS_AT + 256]
    place.paths.keys.write_bytes(keys)
    result = outcome(place, item)
    assert isinstance(result, type), "cells that changed places open nothing"


def test_a_byte_of_the_index_changed_gives_a_defined_error(place: Place, item: Item) -> None:
    good = place.paths.index.read_bytes()
    for position in random.Random(4).sample(range(len(good)), 120):
        place.paths.index.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        result = outcome(place, item)
        assert result == CONTENT or (isinstance(result, type) and issubclass(result, IntegrityError)), (
            position
        )
    for length in (0, 100, 4096, len(good) // 2, len(good) - 1):
        place.paths.index.write_bytes(good[:length])
        result = outcome(place, item)
        assert result == CONTENT or isinstance(result, type), length


def test_a_key_slot_that_asks_for_all_memory_is_refused_before_it_is_taken(place: Place) -> None:
    import struct

    from fluxctx.vault.checksums import check

    data = bytearray(place.paths.keys.read_bytes())
    data[HEADER_BYTES + 36 : HEADER_BYTES + 48] = struct.pack("<III", 0xFFFFFFFF, 1, 1)
    body = bytes(data[HEADER_BYTES : HEADER_BYTES + 504])
    data[HEADER_BYTES + 504 : HEADER_BYTES + 512] = check(bytes(data[16:32]), HEADER_BYTES, body)
    place.paths.keys.write_bytes(data)
    with pytest.raises((VaultDamaged, WrongPassphrase)):
        place.open()


WORKS = ("put", "group", "purge", "retain", "sweep", "passwd")


@pytest.mark.parametrize("work", WORKS)
def test_killed_at_any_moment_nothing_promised_is_lost_and_nothing_gone_returns(
    place: Place, work: str
) -> None:
    """Fork, work, kill -9 after a random moment: 90 times each, 540 in all."""
    chance = random.Random(work)
    with place.open() as vault:
        steady = put(vault, b"steady")
    took = timed(place, work)
    for _ in range(90):
        with place.open() as vault:
            victim = put(vault, b"victim", days=1 if work == "sweep" else 30)
        done, finished = killed_in(place, work, victim, chance.uniform(0, took * 1.2))
        now = NOW + timedelta(days=2) if work == "sweep" else NOW
        result = place.sweep(now)
        with place.open(now=now) as vault:
            vault.settle(result.unsettled, now=now)
            assert vault.read(steady.id, now=now) == b"steady"
            for item_id in done:
                assert vault.read(item_id, now=now) == b"new"
            alive = {item.id for item in vault.every(now=now)}
            assert not (finished and work in {"purge", "sweep"} and victim.id in alive)
            if work not in {"purge", "sweep"}:
                assert vault.read(victim.id, now=now) == b"victim"
            count, faults = verify(vault, now=now)
            assert faults == []
            vault.purge([item.id for item in vault.every(now=now) if item.id != steady.id], now=now)
        names = {path.name.split(".")[0] for path in (place.paths.data / "blobs").rglob("*.*")}
        assert names == {steady.id}, "nothing is left behind"
        assert count >= 1


def job(place: Place, work: str, victim: Item, report: int) -> None:
    with place.open() as vault:
        if work in {"put", "group"}:
            for item in vault.put([new(b"new")] * (3 if work == "group" else 1), now=NOW):
                os.write(report, item.id.encode() + b"\n")
        elif work == "purge":
            vault.purge([victim.id], now=NOW)
        elif work == "retain":
            vault.retain(victim.id, NOW + timedelta(days=40), now=NOW)
        elif work == "sweep":
            place.sweep(NOW + timedelta(days=2))
        else:
            from fluxctx.vault import unlocking
            from fluxctx.vault.crypto import TESTING_ONLY
            from tests.vault.places import PASSPHRASE

            vault.replace_secret(unlocking.passphrase(PASSPHRASE), now=NOW, kdf=TESTING_ONLY)
    os.write(report, b"done\n")


def timed(place: Place, work: str) -> float:
    with place.open() as vault:
        victim = put(vault, b"victim")
    began = time.monotonic()
    killed_in(place, work, victim, None)
    took = time.monotonic() - began
    with place.open() as vault:
        rest = [item.id for item in vault.every(now=NOW) if vault.read(item.id, now=NOW) != b"steady"]
        vault.purge(rest, now=NOW)
    return took


def killed_in(place: Place, work: str, victim: Item, after_s: float | None) -> tuple[list[str], bool]:
    """Do one piece of work in a fork and kill it; (ids it acknowledged, whether it finished)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            job(place, work, victim, writing)
        finally:
            os._exit(0)
    os.close(writing)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as file:
        lines = file.read().decode().split("\n")[:-1]
    return [line for line in lines if line != "done"], "done" in lines
