"""The Merkle tree against RFC 9162's own definitions, written here a second time and naively."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxctx.errors import LedgerDamaged
from fluxctx.ledger import tree


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 9162 2.1.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def grown(size: int) -> tuple[list[bytes], list[bytes], tree.Frontier]:
    """Leaves, the stored hashes and the growing edge of a tree."""
    leaves = [b"entry %d" % number for number in range(size)]
    stored: list[bytes] = []
    frontier = tree.Frontier()
    for leaf in leaves:
        stored += frontier.add(tree.leaf_hash(leaf))
    return leaves, stored, frontier


def test_the_roots_that_other_implementations_publish() -> None:
    # RFC 6962 test inputs of google/certificate-transparency (merkletree tests), roots for sizes 1 to 8
    inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    for size, root in enumerate(roots, 1):
        assert tree.root_of([bytes.fromhex(one) for one in inputs[:size]]).hex() == root


@pytest.mark.parametrize("size", range(34))
def test_every_leaf_of_every_small_tree_is_proved_and_no_other(size: int) -> None:
    leaves, stored, frontier = grown(size)
    root = naive_root(leaves)
    assert frontier.root() == root
    assert len(stored) == tree.stored_count(size)
    assert tree.frontier_at(size, stored.__getitem__) == frontier
    for index in range(size):
        path = tree.inclusion_path(index, size, stored.__getitem__)
        tree.verify_inclusion(tree.leaf_hash(leaves[index]), index, size, path, root)
        for wrong in (index - 1, index + 1):
            with pytest.raises(LedgerDamaged):
                tree.verify_inclusion(tree.leaf_hash(leaves[index]), wrong, size, path, root)
        with pytest.raises(LedgerDamaged):
            tree.verify_inclusion(tree.leaf_hash(b"other"), index, size, path, root)


@pytest.mark.parametrize("new", range(1, 34))
def test_every_older_size_is_consistent_and_no_rewritten_one(new: int) -> None:
    leaves, stored, frontier = grown(new)
    for old in range(new + 1):
        path = tree.consistency_path(old, new, stored.__getitem__)
        old_root = naive_root(leaves[:old])
        tree.verify_consistency(old, old_root, new, frontier.root(), path)
        rewritten = naive_root([b"rewritten", *leaves[1:old]])
        with pytest.raises(LedgerDamaged):
            tree.verify_consistency(old, rewritten, new, frontier.root(), path)
        with pytest.raises(LedgerDamaged):
            tree.verify_consistency(old, old_root, new, b"\x00" * 32, [*path, b"\x00" * 32])


@given(st.integers(1, 300), st.data())
@settings(deadline=None, max_examples=60)
def test_no_proof_survives_a_missing_surplus_or_changed_hash(size: int, data: st.DataObject) -> None:
    leaves, stored, frontier = grown(size)
    index = data.draw(st.integers(0, size - 1))
    path = tree.inclusion_path(index, size, stored.__getitem__)
    attempts = [[*path, b"\x00" * 32], [b"\x00" * 32, *path]]
    if path:
        spot = data.draw(st.integers(0, len(path) - 1))
        attempts += [path[:spot] + path[spot + 1 :], [*path[:spot], b"\x00" * 32, *path[spot + 1 :]]]
    for attempt in attempts:
        with pytest.raises(LedgerDamaged):
            tree.verify_inclusion(tree.leaf_hash(leaves[index]), index, size, attempt, frontier.root())


@given(st.integers(2, 300), st.data())
@settings(deadline=None, max_examples=60)
def test_no_consistency_proof_survives_a_missing_surplus_or_changed_hash(
    size: int, data: st.DataObject
) -> None:
    leaves, stored, frontier = grown(size)
    old = data.draw(st.integers(1, size - 1))
    path = tree.consistency_path(old, size, stored.__getitem__)
    spot = data.draw(st.integers(0, len(path) - 1))
    for attempt in (
        [],
        [*path, b"\x00" * 32],
        path[:spot] + path[spot + 1 :],
        [*path[:spot], b"\x00" * 32, *path[spot + 1 :]],
    ):
        with pytest.raises(LedgerDamaged):
            tree.verify_consistency(old, naive_root(leaves[:old]), size, frontier.root(), attempt)


def test_a_place_is_known_from_level_and_number() -> None:
    leaves, stored, _ = grown(33)
    for level in range(6):
        for number in range(33 >> level):
            part = leaves[number << level : (number + 1) << level]
            assert stored[tree.stored_place(level, number)] == naive_root(part)


def test_a_shorter_ledger_is_never_consistent() -> None:
    with pytest.raises(LedgerDamaged, match="shorter"):
        tree.verify_consistency(3, b"", 2, b"", [])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_proof_outside_the_tree(index: int, size: int) -> None:
    _, stored, _ = grown(3)
    with pytest.raises(IndexError):
        tree.inclusion_path(index, size, stored.__getitem__)
    with pytest.raises(LedgerDamaged, match="outside"):
        tree.verify_inclusion(b"", index, size, [], b"")
    with pytest.raises(IndexError):
        tree.consistency_path(size + 1, size, stored.__getitem__)
