"""Signed notes, checkpoints, verifier keys and proofs as text: one fault each, and C2SP's own example."""

from __future__ import annotations

import base64

import pytest

from fluxctx.errors import LedgerDamaged
from fluxctx.ledger import note, tree
from tests.ledger.keys import AccountKeys, verify

KEYS = AccountKeys()
KEY = note.VerifierKey(name="fluxctx/ledger/test", public_key=KEYS.public_key)
OTHER = note.VerifierKey(name="fluxctx/ledger/test", public_key=AccountKeys(2).public_key)
HEAD = note.TreeHead(origin="fluxctx/ledger/test", size=1, root=tree.leaf_hash(b"entry"))
SIGNED = note.sign(str(HEAD), [(KEY, KEYS.sign)])


def test_the_example_of_gos_sumdb_note_verifies() -> None:
    # golang.org/x/mod/sumdb/note, package example: PeterNeumann's key and note
    key = note.parse_key("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
        "\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpR"
        "Zb6KE6RyyBwJnAM=\n"
    )
    signed, signers = note.verify(text, [key], verify)
    assert signed.endswith("is.\n")
    assert signers == [key]


def test_a_key_is_read_back_as_it_was_written() -> None:
    assert note.parse_key(str(KEY)) == KEY
    assert str(KEY).split("+")[1] == KEY.key_id.hex()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name+00000000",
        "name+00000000+!!",
        "name+00000000+AQ==",
        str(KEY).replace("+" + KEY.key_id.hex(), "+00000000"),
        str(KEY) + "=",
        "+".join([*str(KEY).split("+")[:2], base64.b64encode(b"\x02" + KEY.public_key).decode()]),
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(LedgerDamaged, match="verifier key"):
        note.parse_key(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "a\x01", "\x7f"])
def test_a_keys_name_has_no_space_plus_or_control_character(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        note.VerifierKey(name=name, public_key=KEY.public_key)


def test_a_public_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        note.VerifierKey(name="a", public_key=b"short")


def test_a_note_is_signed_and_its_text_may_hold_empty_lines() -> None:
    signed = note.sign("one\n\ntwo\n", [(KEY, KEYS.sign)])
    assert note.verify(signed, [KEY], verify) == ("one\n\ntwo\n", [KEY])


def test_signatures_of_unknown_keys_are_ignored_and_known_ones_must_all_be_right() -> None:
    both = note.sign(str(HEAD), [(OTHER, AccountKeys(2).sign), (KEY, KEYS.sign)])
    assert note.verify(both, [KEY], verify)[1] == [KEY]
    assert note.verify(both, [KEY, OTHER], verify)[1] == [OTHER, KEY]
    lying = note.sign(str(HEAD), [(OTHER, KEYS.sign), (KEY, KEYS.sign)])
    assert note.verify(lying, [KEY], verify)[1] == [KEY]
    with pytest.raises(LedgerDamaged, match="signature is wrong"):
        note.verify(lying, [KEY, OTHER], verify)


def test_a_note_without_a_known_signature_is_refused() -> None:
    with pytest.raises(LedgerDamaged, match="known key"):
        note.verify(SIGNED, [OTHER], verify)
    with pytest.raises(LedgerDamaged, match="known key"):
        note.verify(SIGNED, [], verify)


LINE = SIGNED.split("\n\n")[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no blank line\n",
        str(HEAD) + "\n" + LINE.rstrip("\n"),
        str(HEAD) + "\n",
        str(HEAD) + "\n" + LINE.replace("— ", "- "),
        str(HEAD) + "\n— name !!\n",
        str(HEAD) + "\n— name\n",
        str(HEAD) + "\n—  AAAAAAAA\n",
        str(HEAD) + "\n— name AAAA\n",
        str(HEAD) + "\n" + LINE + "x\n",
    ],
)
def test_what_is_no_signed_note_is_refused(text: str) -> None:
    with pytest.raises(LedgerDamaged):
        note.verify(text, [KEY], verify)


@pytest.mark.parametrize("position", range(len(SIGNED.encode())))
def test_no_changed_bit_of_a_checkpoint_verifies(position: int) -> None:
    for bit in range(8):
        raw = bytearray(SIGNED.encode())
        raw[position] ^= 1 << bit
        with pytest.raises((LedgerDamaged, UnicodeDecodeError)):
            note.verify(raw.decode(), [KEY], verify)


def test_a_head_is_read_back_as_it_was_written() -> None:
    assert note.parse_head(str(HEAD)) == HEAD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n1\n",
        "origin\n1\nAAAA\n",
        str(HEAD) + "extension\n",
        str(HEAD).replace("\n1\n", "\n01\n"),
        str(HEAD).replace("\n1\n", "\n-1\n"),
        str(HEAD).replace("\n1\n", "\none\n"),
        str(HEAD).replace("=\n", "\n"),
        str(HEAD)[:-1],
    ],
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(LedgerDamaged, match="checkpoint does not parse"):
        note.parse_head(text)


PROOF = note.Proof(index=0, path=(), checkpoint=SIGNED)


def test_a_proof_is_read_back_with_and_without_its_extra_line() -> None:
    assert note.parse_proof(str(PROOF)) == PROOF
    lines = str(PROOF).split("\n")
    assert note.parse_proof("\n".join([lines[0], "extra AAAA", *lines[1:]])) == PROOF
    assert note.verify_proof(b"entry", PROOF, [KEY], verify) == HEAD


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tlog-proof@v1", "tlog-proof@v2"),
        ("index 0", "index 00"),
        ("index 0", "index"),
        ("index 0", "index -1"),
        ("index 0\n", "index 0\nAAAA\n"),
        ("index 0\n", "index 0\n!!\n"),
        ("index 0\n", "index 0\n" + (base64.b64encode(bytes(32)).decode() + "\n") * 65),
        ("index 0\n\n", "index 0\n"),
        ("index 0\n", ""),
    ],
)
def test_what_is_no_proof_is_refused(old: str, new: str) -> None:
    assert old in str(PROOF)
    with pytest.raises(LedgerDamaged):
        note.verify_proof(b"entry", note.parse_proof(str(PROOF).replace(old, new, 1)), [KEY], verify)


def test_a_checkpoint_that_another_logs_key_signed_proves_nothing() -> None:
    head = note.TreeHead(origin="fluxctx/ledger/other", size=1, root=HEAD.root)
    proof = note.Proof(index=0, path=(), checkpoint=note.sign(str(head), [(KEY, KEYS.sign)]))
    with pytest.raises(LedgerDamaged, match="another ledger"):
        note.verify_proof(b"entry", proof, [KEY], verify)
