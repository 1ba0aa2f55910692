"""Writes the vectors beside it, from docs/spec/ledger-v1.md alone: nothing of fluxctx is imported here.

Each file: a head of `name: value` lines, an empty line, a body.  Each breaks one rule or none.
Run `python tests/vectors/ledger-v1/generate.py` after a change of the specification; a test compares.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HERE = Path(__file__).parent
LEDGER = "5f" * 16
ORIGIN = f"fluxctx/ledger/{LEDGER}"


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def canon(value: Any) -> str:
    """Enough of RFC 8785 for ASCII names and integers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


# --- section 2: the tree, straight from RFC 9162's recursions -----------------------------------------


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return sha(b"\x00" + leaves[0])
    k = split(len(leaves))
    return sha(b"\x01" + root(leaves[:k]) + root(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), root(leaves[k:])]
    return [*path(m - k, leaves[k:]), root(leaves[:k])]


def consistency(m: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*consistency(m, leaves[:k], whole), root(leaves[k:])]
    return [*consistency(m - k, leaves[k:], False), root(leaves[:k])]


# --- section 5: notes ---------------------------------------------------------------------------------


class Signer:
    def __init__(self, byte: int, name: str = ORIGIN) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(bytes([byte]) * 32)
        self.public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.name = name
        self.id = sha(name.encode() + b"\n\x01" + self.public)[:4]

    def vkey(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64(bytes([1]) + self.public)}"

    def note(self, text: str) -> str:
        return f"{text}\n— {self.name} {b64(self.id + self.private.sign(text.encode()))}\n"


OWNER, STRANGER = Signer(1), Signer(2)


def head(leaves: list[bytes], origin: str = ORIGIN) -> str:
    return f"{origin}\n{len(leaves)}\n{b64(root(leaves))}\n"


def proof(index: int, hashes: list[bytes], checkpoint: str) -> str:
    return "\n".join(["c2sp.org/tlog-proof@v1", f"index {index}", *map(b64, hashes), "", checkpoint])


# --- section 3 and 4: entries and receipts ------------------------------------------------------------


def entry(seq: int, /, **members: Any) -> str:
    value = {"at": "2026-11-24T12:00:00.123Z", "clear": {"n": seq}, "event": "generated", "seq": seq}
    return canon(value | members)


FACTS = '{"guidance":3.5,"output_sha256":"' + "ab" * 32 + '"}'
SALT = bytes(range(32))
COMMIT = hmac.new(SALT, b"fluxctx/ledger/v1/commit\n" + FACTS.encode(), hashlib.sha256).hexdigest()
RECEIPTS = [
    canon({"at": "2026-11-24T12:00:00.000Z", "freed_bytes": 10 + n, "id": f"{n:032x}", "reason": "expired"})
    for n in range(3)
]


def batch(receipts: list[str], **changes: Any) -> str:
    clear = {
        "count": 3,
        "first": 0,
        "freed_bytes": 33,
        "root": root([one.encode() for one in receipts]).hex(),
    }
    return entry(0, event="deleted", clear=clear | changes)


FILES: dict[str, str] = {}


def write(name: str, kind: str, expect: str, comment: str, body: str, **head_lines: str) -> None:
    lines = {"kind": kind, "expect": expect, "comment": comment} | head_lines
    FILES[f"{name}.txt"] = "".join(f"{key}: {value}\n" for key, value in lines.items()) + "\n" + body


def entries() -> None:
    def one(name: str, expect: str, comment: str, line: str, **more: str) -> None:
        write(f"entry_{name}", "entry", expect, comment, line, seq="7", **more)

    good = entry(7, commit=COMMIT, sealed=b64(b"sealed elsewhere"))
    shown = {"facts": FACTS, "salt": b64(SALT)}
    bad = "ledger_damaged"
    one("clear_only", "ok", "an entry of a locked run", entry(7, omitted=["guidance"]))
    one("disclosed", "ok", "facts and salt fit the commitment", good, **shown)
    one(
        "other_facts",
        bad,
        "the commitment binds the facts",
        good,
        **(shown | {"facts": FACTS.replace("3.5", "3.6")}),
    )
    one("other_salt", bad, "the commitment binds the salt", good, **(shown | {"salt": b64(bytes(32))}))
    one("out_of_turn", bad, "seq is the leaf's index", entry(8))
    one("white_space", bad, "canonical JSON has none", entry(7).replace(":{", ": {"))
    one(
        "member_order",
        bad,
        "canonical JSON orders members",
        '{"seq":7,' + entry(7)[1:].replace(',"seq":7', ""),
    )
    one("member_twice", bad, "no name twice", entry(7).replace('"seq":7', '"seq":7,"seq":7'))
    one("surplus_member", bad, "no other member", entry(7, extra=1))
    one("commit_alone", bad, "commit and sealed come together", entry(7, commit=COMMIT))
    one("commit_upper_case", bad, "hex is lower case", entry(7, commit=COMMIT.upper(), sealed=b64(b"x")))
    one(
        "sentence_in_clear",
        bad,
        "clear holds tokens, so no sentence",
        entry(7, clear={"rule": "a red apple"}),
    )
    one("number_in_clear", bad, "clear holds no number but integers", entry(7, clear={"score": 0.5}))
    one("object_in_clear", bad, "clear is flat", entry(7, clear={"a": {"b": 1}}))
    one("time_without_ms", bad, "times have milliseconds", entry(7, at="2026-11-24T12:00:00Z"))
    one("loose_base64", bad, "unused bits are zero", entry(7, commit=COMMIT, sealed="AB=="))
    one("seq_is_text", bad, "seq is an integer", entry(7, seq="7"))


def batches() -> None:
    def one(name: str, expect: str, comment: str, line: str, receipts: list[str]) -> None:
        write(
            f"batch_{name}", "batch", expect, comment, "".join(f"{text}\n" for text in receipts), entry=line
        )

    bad = "ledger_damaged"
    one("whole", "ok", "one entry commits to three receipts", batch(RECEIPTS), RECEIPTS)
    altered = [RECEIPTS[0].replace("expired", "purged"), *RECEIPTS[1:]]
    one("altered", bad, "a receipt's reason was changed", batch(RECEIPTS), altered)
    one("reordered", bad, "receipts stand in order", batch(RECEIPTS), RECEIPTS[::-1])
    one("missing", bad, "fewer receipts than counted", batch(RECEIPTS), RECEIPTS[:2])
    one("elsewhere", bad, "first is a position in bytes", batch(RECEIPTS, first=1), RECEIPTS)
    one("no_root", bad, "the root is hex", batch(RECEIPTS, root="none"), RECEIPTS)


def notes() -> None:
    leaves = [entry(n).encode() for n in range(3)]
    good = OWNER.note(head(leaves))

    def one(name: str, expect: str, comment: str, text: str) -> None:
        write(f"checkpoint_{name}", "checkpoint", expect, comment, text, vkey=OWNER.vkey())

    bad = "ledger_damaged"
    one("signed", "ok", "three entries", good)
    one("empty_tree", "ok", "an empty ledger can be signed", OWNER.note(head([])))
    one(
        "cosigned",
        "ok",
        "signatures of unknown keys are ignored",
        good + STRANGER.note(head(leaves)).split("\n\n")[1],
    )
    one("size_changed", bad, "the signature is over the text", good.replace("\n3\n", "\n2\n"))
    one("unknown_key", bad, "no signature of a known key", STRANGER.note(head(leaves)))
    one("size_with_zero", bad, "no leading zeroes", OWNER.note(head(leaves).replace("\n3\n", "\n03\n")))
    one("extension_line", bad, "version 1 writes none", OWNER.note(head(leaves) + "extra\n"))
    one("hyphen", bad, "signature lines begin with an em dash", good.replace("— ", "- "))
    one("no_last_newline", bad, "every line ends with LF", good[:-1])
    one("short_root", bad, "a root has 32 bytes", OWNER.note(f"{ORIGIN}\n3\n{b64(bytes(31))}\n"))


def proofs() -> None:
    leaves = [entry(n).encode() for n in range(7)]
    signed, where = OWNER.note(head(leaves)), path(4, leaves)

    def one(name: str, expect: str, comment: str, text: str, seq: int = 4) -> None:
        write(f"proof_{name}", "proof", expect, comment, text, vkey=OWNER.vkey(), entry=entry(seq))

    bad = "ledger_damaged"
    for size, index in ((1, 0), (2, 1), (7, 0), (7, 4), (7, 6), (8, 5)):
        tree = [entry(n).encode() for n in range(size)]
        text = proof(index, path(index, tree), OWNER.note(head(tree)))
        one(f"of_{index}_in_{size}", "ok", f"entry {index} of {size}", text, index)
    one(
        "extra_line",
        "ok",
        "unauthenticated extra data is skipped",
        proof(4, where, signed).replace("index", "extra AAAA\nindex"),
    )
    one("wrong_index", bad, "the path is the index's", proof(5, where, signed))
    one("outside", bad, "the index is inside the tree", proof(7, where, signed))
    one("too_short", bad, "a hash is missing", proof(4, where[:-1], signed))
    one("too_long", bad, "a hash too many", proof(4, [*where, bytes(32)], signed))
    one("changed_hash", bad, "one hash is another", proof(4, [bytes(32), *where[1:]], signed))
    one("other_entry", bad, "the leaf is the entry", proof(4, where, signed), 5)
    one("other_tree", bad, "the root is another tree's", proof(4, where, OWNER.note(head(leaves[:6]))))
    one("other_key", bad, "the checkpoint is a stranger's", proof(4, where, STRANGER.note(head(leaves))))
    one(
        "other_log",
        bad,
        "the key signed for another log",
        proof(4, where, OWNER.note(head(leaves, "fluxctx/ledger/0"))),
    )


def consistencies() -> None:
    leaves = [entry(n).encode() for n in range(8)]

    def one(
        name: str, expect: str, comment: str, old: int, new: int, hashes: list[bytes], old_root: bytes
    ) -> None:
        facts = {
            "old": str(old),
            "old_root": old_root.hex(),
            "new": str(new),
            "new_root": root(leaves[:new]).hex(),
        }
        body = "".join(f"{b64(one)}\n" for one in hashes)
        write(f"consistency_{name}", "consistency", expect, comment, body, **facts)

    for old, new in ((0, 5), (1, 8), (3, 7), (4, 7), (6, 8), (7, 7)):
        good = consistency(old, leaves[:new]) if old else []
        one(f"{old}_to_{new}", "ok", "nothing before was changed", old, new, good, root(leaves[:old]))
    forged = root([b"forged", *leaves[1:3]])
    one(
        "rewritten", "ledger_damaged", "the first entry was another", 3, 7, consistency(3, leaves[:7]), forged
    )
    one("cut", "ledger_damaged", "a hash is missing", 3, 7, consistency(3, leaves[:7])[:-1], root(leaves[:3]))
    one("backwards", "ledger_damaged", "a ledger never shrinks", 7, 3, [], root(leaves[:7]))


def ledgers() -> None:
    lines = [entry(n) for n in range(4)]
    signed = OWNER.note(head([line.encode() for line in lines[:3]]))

    def one(name: str, expect: str, comment: str, body: str, size: int = 4) -> None:
        facts = {"vkey": OWNER.vkey(), "checkpoint": b64(signed.encode()), "size": str(size)}
        write(f"ledger_{name}", "ledger", expect, comment, body, **facts)

    def text(some: list[str]) -> str:
        return "".join(f"{line}\n" for line in some)

    bad = "ledger_damaged"
    one("whole", "ok", "three signed entries and one after them", text(lines))
    one("torn_tail", "ok", "a line without LF was never acknowledged", text(lines) + entry(4)[:50])
    one("torn_signed", bad, "the checkpoint covers the torn line", text(lines[:2]) + lines[2][:50])
    one("rubbish_last", "ok", "a last line that is no entry was never acknowledged", text([*lines, "{}"]))
    one("rubbish_inside", bad, "an entry before the last does not parse", text([*lines[:3], "{}", entry(4)]))
    one(
        "altered",
        bad,
        "a signed entry was altered",
        text([lines[0].replace("generated", "imported"), *lines[1:]]),
    )
    one("dropped", bad, "a signed entry was dropped", text([lines[0], *lines[2:]]))
    one("swapped", bad, "two signed entries were exchanged", text([lines[1], lines[0], *lines[2:]]))
    one("cut", bad, "fewer entries than were signed", text(lines[:2]))
    one(
        "unsigned_cut",
        "ok",
        "an unsigned entry was cut off: only a later checkpoint would show it",
        text(lines[:3]),
        3,
    )


def build() -> dict[str, str]:
    """Every vector by file name."""
    for make in (entries, batches, notes, proofs, consistencies, ledgers):
        make()
    return FILES


if __name__ == "__main__":
    for name, content in build().items():
        (HERE / name).write_text(content)
    print(f"{len(FILES)} vectors")
