"""C2SP signed notes, checkpoints and proofs as text (spec 5 and 6).  Signing and verifying are handed in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fluxctx.errors import LedgerDamaged
from fluxctx.ledger import canonical, tree

ED25519 = b"\x01"
DASH = "— "  # em dash, space
PROOF_HEADER = "c2sp.org/tlog-proof@v1"


class Verify(Protocol):
    """Ed25519 verification (RFC 8032)."""

    def __call__(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """Say whether the 64-byte signature is the 32-byte key's over the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """Who may have signed: a name and a 32-byte Ed25519 public key."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not self.name or any(
            letter.isspace() or letter in "+\x7f" or letter < " " for letter in self.name
        ):
            raise ValueError("a key's name holds neither space, control character nor plus")
        if len(self.public_key) != 32:
            raise ValueError("an Ed25519 public key has 32 bytes")

    @property
    def key_id(self) -> bytes:
        """The four bytes that stand before each of its signatures."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public_key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{canonical.encode64(ED25519 + self.public_key)}"


def parse_key(text: str) -> VerifierKey:
    """Read a vkey; raises LedgerDamaged."""
    parts = text.split("+", 2)
    try:
        name, _, encoded = parts
        raw = canonical.decode64(encoded)
        key = VerifierKey(name=name, public_key=raw[1:])
    except ValueError as error:
        raise LedgerDamaged("a verifier key does not parse") from error
    if str(key) != text:
        raise LedgerDamaged("a verifier key does not fit its own id")
    return key


def sign(text: str, signers: Sequence[tuple[VerifierKey, Callable[[bytes], bytes]]]) -> str:
    """Turn `text`, which ends in a newline, into a note signed by each of `signers`."""
    lines = [
        f"{DASH}{key.name} {canonical.encode64(key.key_id + sign_bytes(text.encode()))}\n"
        for key, sign_bytes in signers
    ]
    return text + "\n" + "".join(lines)


def verify(note: str, keys: Sequence[VerifierKey], verify_bytes: Verify) -> tuple[str, list[VerifierKey]]:
    """Check a note and give its text and the known keys that signed it.

    Signatures of unknown keys are ignored; one bad signature of a known key makes the whole note bad.

    Raises:
        LedgerDamaged: not a note, no signature of a known key, or a bad one.
    """
    text, blank, block = note.rpartition("\n\n")
    if not blank or not block.endswith("\n"):
        raise LedgerDamaged("not a signed note")
    text += "\n"
    known = {(key.name, key.key_id): key for key in keys}
    signers = []
    for line in block.splitlines():
        name, signature = _signature(line)
        key = known.get((name, signature[:4]))
        if key is None:
            continue
        if not verify_bytes(key.public_key, signature[4:], text.encode()):
            raise LedgerDamaged("a checkpoint's signature is wrong")
        signers.append(key)
    if not signers:
        raise LedgerDamaged(
            "the checkpoint is not signed by a known key", hint="compare the key's fingerprint"
        )
    return text, signers


def _signature(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(DASH).partition(" ")
    try:
        signature = canonical.decode64(encoded)
    except ValueError as error:
        raise LedgerDamaged("a note's signature line does not parse") from error
    if not line.startswith(DASH) or not name or not space or len(signature) < 5:
        raise LedgerDamaged("a note's signature line does not parse")
    return name, signature


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """What a checkpoint says: a ledger's name, its number of entries and their root."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{canonical.encode64(self.root)}\n"


def parse_head(text: str) -> TreeHead:
    """Read a checkpoint's text; raises LedgerDamaged.  Extension lines are refused: version 1 writes none."""
    try:
        origin, size, root, rest = text.split("\n")
        head = TreeHead(origin=origin, size=int(size), root=canonical.decode64(root))
    except ValueError as error:
        raise LedgerDamaged("a checkpoint does not parse") from error
    if rest or str(head) != text or head.size < 0 or len(head.root) != tree.HASH_BYTES:
        raise LedgerDamaged("a checkpoint does not parse")
    return head


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A C2SP tlog-proof: that one entry stands in the tree of a checkpoint."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: str

    def __str__(self) -> str:
        lines = [
            PROOF_HEADER,
            f"index {self.index}",
            *map(canonical.encode64, self.path),
            "",
            self.checkpoint,
        ]
        return "\n".join(lines)


def parse_proof(text: str) -> Proof:
    """Read a tlog-proof; raises LedgerDamaged.  The unauthenticated `extra` line is skipped."""
    head, blank, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if len(lines) > 1 and lines[1].startswith("extra "):
        del lines[1]
    try:
        index = int(lines[1].removeprefix("index "))
        path = tuple(canonical.decode64(line) for line in lines[2:])
    except (IndexError, ValueError) as error:
        raise LedgerDamaged("the proof does not parse") from error
    proof = Proof(index=index, path=path, checkpoint=checkpoint)
    plain = "\n".join([*lines, "", checkpoint])
    if (
        not blank
        or str(proof) != plain
        or any(len(node) != tree.HASH_BYTES for node in path)
        or len(path) > 64
    ):
        raise LedgerDamaged("the proof does not parse")
    return proof


def verify_proof(data: bytes, proof: Proof, keys: Sequence[VerifierKey], verify_bytes: Verify) -> TreeHead:
    """Check offline that `data` (an entry's line, no LF) stands in a signed tree; raises LedgerDamaged."""
    text, signers = verify(proof.checkpoint, keys, verify_bytes)
    head = parse_head(text)
    if head.origin not in {key.name for key in signers}:
        raise LedgerDamaged("the checkpoint is of another ledger than its key")
    tree.verify_inclusion(tree.leaf_hash(data), proof.index, head.size, proof.path, head.root)
    return head
