"""SSH signatures over documents, so that `ssh-keygen -Y verify` checks them (OpenSSH PROTOCOL.sshsig).

The Ed25519 key is the ledger's; signing and verifying are handed in.
"""

from __future__ import annotations

import base64
import hashlib
import textwrap
from collections.abc import Callable

from fluxctx.ledger.note import Verify

MAGIC = b"SSHSIG"
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


def _string(data: bytes) -> bytes:
    """An SSH wire string (RFC 4251 section 5)."""
    return len(data).to_bytes(4, "big") + data


def key_blob(public_key: bytes) -> bytes:
    """An Ed25519 public key on the SSH wire (RFC 8709 section 4)."""
    return _string(b"ssh-ed25519") + _string(public_key)


def fingerprint(public_key: bytes) -> str:
    """The key's fingerprint as `ssh-keygen -l` prints it: to be compared over a second channel."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key_blob(public_key)).digest()).decode().rstrip("=")


def public_line(public_key: bytes, comment: str) -> str:
    """The key as a line of `authorized_keys`; with a principal in front, of `allowed_signers`."""
    return f"ssh-ed25519 {base64.b64encode(key_blob(public_key)).decode()} {comment}".rstrip()


def _signed(message: bytes, namespace: str) -> bytes:
    """What is signed in the message's place."""
    return MAGIC + b"".join(
        _string(part) for part in (namespace.encode(), b"", b"sha512", hashlib.sha512(message).digest())
    )


def sign(message: bytes, namespace: str, public_key: bytes, sign_bytes: Callable[[bytes], bytes]) -> str:
    """Write the armoured signature of `message` under `namespace`."""
    signature = _string(b"ssh-ed25519") + _string(sign_bytes(_signed(message, namespace)))
    parts = (key_blob(public_key), namespace.encode(), b"", b"sha512", signature)
    blob = MAGIC + (1).to_bytes(4, "big") + b"".join(_string(part) for part in parts)
    return "\n".join([BEGIN, *textwrap.wrap(base64.b64encode(blob).decode(), 70), END, ""])


def verify(message: bytes, armoured: str, namespace: str, public_key: bytes, verify_bytes: Verify) -> bool:
    """Say whether `armoured` is exactly this key's signature of the message under the namespace."""
    try:
        raw = base64.b64decode("".join(armoured.split("\n")[1:-2]), validate=True)
    except ValueError:
        return False
    signature = raw[-64:]
    # an Ed25519 signature is the last 64 bytes; all before it follows from key, namespace and message
    return armoured == sign(message, namespace, public_key, lambda _: signature) and verify_bytes(
        public_key, signature, _signed(message, namespace)
    )
