"""Items without an engine: import, list, show, search, retain, purge, export, by a script in a pipe."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from tests.running import Home


def png(path: Path, color: tuple[int, int, int] = (200, 30, 30), side: int = 16) -> Path:
    """A real PNG of one colour, written by hand."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(color) * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.fixture
def stocked(home: Home) -> Home:
    home.init()
    for number, tag in enumerate(("set=fruit", "set=ships")):
        picture = png(home.work / f"{number}.png", (number * 100, 0, 0))
        assert home.run("import", str(picture), "--tag", tag).code == 0
    return home


def ids(home: Home) -> list[str]:
    return [item["id"] for item in home.json("list").data["items"]]


def test_list_shows_the_newest_first_with_tags_and_ends(stocked: Home) -> None:
    items = stocked.json("list").data["items"]
    assert [item["tags"] for item in items] == [{"set": "ships"}, {"set": "fruit"}]
    assert all(item["expires_at"] > item["created_at"] for item in items)
    assert stocked.json("list", "--tag", "set=fruit").data["items"] == items[1:]


def test_pages_follow_each_other_without_gap(stocked: Home) -> None:
    first = stocked.json("list", "--limit", "1").data
    second = stocked.json("list", "--limit", "1", "--after", first["next"]).data
    assert [page["items"][0]["id"] for page in (first, second)] == ids(stocked)
    assert second["next"] is None


def test_an_id_may_be_shortened_to_an_unambiguous_prefix(stocked: Home) -> None:
    full = ids(stocked)[0]
    assert stocked.json("show", full[:8]).data["item"]["id"] == full
    assert stocked.json("show", "0" * 31).code == 5
    assert stocked.json("show", "xyz").code == 2


def test_search_finds_tags_and_nothing_else(stocked: Home) -> None:
    assert [item["tags"]["set"] for item in stocked.json("search", "fruit").data["items"]] == ["fruit"]
    assert stocked.json("search", "walrus").data["items"] == []


def test_a_purged_item_is_gone_for_good_and_the_ledger_says_so(stocked: Home) -> None:
    victim, other = ids(stocked)
    done = stocked.json("purge", victim, "--yes")
    assert [row["id"] for row in done.data["purged"]] == [victim]
    assert stocked.json("show", victim).code == 5
    assert ids(stocked) == [other]
    entries = stocked.json("ledger", "show").data["entries"]
    assert entries[-1]["event"] == "deleted"
    assert stocked.json("ledger", "verify").code == 0


def test_a_filtered_page_is_full_while_there_is_more(stocked: Home) -> None:
    page = stocked.json("list", "--tag", "set=fruit", "--limit", "1").data
    assert [item["tags"] for item in page["items"]] == [{"set": "fruit"}]  # not the newest, and yet found
    assert page["next"] is None


def test_purge_by_tag_takes_what_fits_and_leaves_the_rest(stocked: Home) -> None:
    ships, fruit = ids(stocked)
    done = stocked.json("purge", "--tag", "set=ships", "--kind", "upload", "--yes")
    assert [row["id"] for row in done.data["purged"]] == [ships]
    assert ids(stocked) == [fruit]


@pytest.mark.parametrize(
    "flags",
    [
        ("--tag", "set=planes"),
        ("--tag", "none"),
        ("--kind", "video"),
        ("--before", "2001-01-01"),
        ("--model", "starter"),
    ],
)
def test_filters_that_fit_nothing_purge_nothing(stocked: Home, flags: tuple[str, ...]) -> None:
    assert stocked.json("purge", *flags, "--yes").data["purged"] == []
    assert len(ids(stocked)) == 2


@pytest.mark.parametrize(
    "flags",
    [("--all", "--kind", "upload"), ("--expired", "--tag", "set"), ("@1", "--before", "2100-01-01"), ()],
)
def test_purge_wants_one_way_of_saying_what(stocked: Home, flags: tuple[str, ...]) -> None:
    assert stocked.json("purge", *flags, "--yes").code == 2
    assert len(ids(stocked)) == 2


@pytest.mark.parametrize("flags", [("--kind", "song"), ("--before", "soon"), ("--tag", "=x")])
def test_a_filter_that_cannot_be_read_is_a_usage_error_and_purges_nothing(
    stocked: Home, flags: tuple[str, ...]
) -> None:
    assert stocked.json("purge", *flags, "--yes").code == 2
    assert len(ids(stocked)) == 2


def test_export_by_tag_writes_the_copies_that_fit(stocked: Home) -> None:
    (stocked.work / "out").mkdir()
    done = stocked.json("export", "--tag", "set=fruit", "--to", str(stocked.work / "out"))
    assert [row["id"] for row in done.data["copies"]] == [ids(stocked)[1]]
    assert len(list((stocked.work / "out").iterdir())) == 1


def test_purge_asks_and_without_a_terminal_refuses(stocked: Home) -> None:
    done = stocked.json("purge", "--all")
    assert (done.code, done.envelope["error"]["code"]) == (2, "no_terminal")
    assert len(ids(stocked)) == 2


def test_the_sweep_needs_no_passphrase_and_every_command_sweeps_first(stocked: Home) -> None:
    picture = png(stocked.work / "brief.png")
    made = stocked.json("import", str(picture), "--retain", "1s").data["items"][0]["id"]
    import time

    time.sleep(1.2)
    swept = stocked.json("sweep", env={"FLUXCTX_PASSPHRASE_FILE": None})
    assert swept.data["expired"] == 1
    assert stocked.json("show", made).code == 5
    assert not list(stocked.root.rglob(f"{made}*"))
    assert stocked.json("ledger", "show").data["entries"][-1]["event"] == "deleted"


def test_retain_moves_the_end_within_the_plan(stocked: Home) -> None:
    item = ids(stocked)[0]
    before = stocked.json("show", item).data["item"]["expires_at"]
    after = stocked.json("retain", item, "--for", "60d").data["item"]["expires_at"]
    assert after > before
    assert stocked.json("show", item).data["item"]["expires_at"] == after
    assert stocked.json("retain", item, "--for", "4000d").code == 3


def test_an_export_is_private_marked_and_never_overwrites(stocked: Home) -> None:
    target = stocked.work / "copy.png"
    assert stocked.json("export", ids(stocked)[0], "--to", str(target)).code == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert b"DMI-PROHIBITED-AIMLTRAINING" in target.read_bytes()
    again = stocked.json("export", ids(stocked)[0], "--to", str(target))
    assert (again.code, again.envelope["error"]["code"]) == (2, "output_exists")
    assert stocked.json("export", ids(stocked)[0], "--to", str(target), "--force").code == 0


def test_what_is_no_picture_is_not_imported(stocked: Home) -> None:
    fake = stocked.work / "fake.png"
    fake.write_bytes(b"\x89PNG\r\n\x1a\n" + b"junk" * 100)
    done = stocked.json("import", str(fake))
    assert (done.code, done.envelope["error"]["code"]) == (2, "media_invalid")
    assert "fake" not in done.text
    assert len(ids(stocked)) == 2


def test_a_copy_of_the_data_folder_opens_nothing_without_the_keys(stocked: Home) -> None:
    (keys,) = stocked.root.glob("state/vaults/*/keys")
    keys.unlink()
    done = stocked.json("list")
    assert (done.code, done.envelope["error"]["code"]) == (9, "vault_damaged")


def test_one_flipped_byte_in_a_sealed_file_opens_nothing(stocked: Home) -> None:
    item = ids(stocked)[0]
    (blob,) = stocked.root.rglob(f"{item}.original")
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    done = stocked.json("export", item, "--to", str(stocked.work / "x.png"))
    assert (done.code, done.envelope["error"]["code"]) == (9, "vault_damaged")
    assert not (stocked.work / "x.png").exists()


def test_a_closed_stdout_loses_nothing(stocked: Home) -> None:
    import subprocess
    import sys

    command = f"{sys.executable} -m fluxctx list --json | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=stocked.environment, capture_output=True, check=False
    )
    assert done.returncode in (0, 141)
    assert b"Traceback" not in done.stderr
    assert len(ids(stocked)) == 2
