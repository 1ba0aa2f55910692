"""Deletion certificates: issued only after a check, verified by anyone, with standard tools."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fluxctx.domain import ItemId
from fluxctx.errors import CertificateInvalid, CertificateRefused, NotFound
from fluxctx.ledger import canonical, sshsig
from fluxctx.ledger.certificates import (
    NAMESPACE,
    Certificate,
    CheckResult,
    DeletionFacts,
    Precondition,
    issue_deletion,
    parse_bundle,
    sign,
    verify_certificate,
)
from fluxctx.ledger.store import Ledger
from tests.ledger.keys import NOON, AccountKeys, deaths, item_id, verify

FACTS = DeletionFacts(
    number="c0" * 16,
    authority="owner request",
    performed_by="automated, unattended",
    validated_by="automated, unattended",
    account="ab" * 32,
    system="5e" * 16,
    version="0.1.0",
    medium={"filesystem": "ext4"},
    preconditions=(
        Precondition(name="encrypted from the first write", met=True, evidence="no other path exists"),
    ),
)


def passed(ids: Sequence[ItemId]) -> list[CheckResult]:
    return [CheckResult(name="open with the passphrase", passed=True, sample=len(ids), detail="each refused")]


@pytest.fixture
def certificate(filled: Ledger) -> Certificate:
    seq = filled.append_deaths(deaths(0, 3, reason="purged"), NOON)
    assert seq is not None
    return issue_deletion(filled, AccountKeys(), seq, FACTS, passed, NOON)


def changed(certificate: Certificate, where: list[Any], value: object) -> Certificate:
    """The same certificate with one value changed, signed again by the same key: a lying owner."""
    content = canonical.parse(certificate.text)
    target = content
    for step in where[:-1]:
        target = target[step]
    target[where[-1]] = value
    return sign(canonical.render(content), AccountKeys())


def test_a_certificate_says_what_was_deleted_and_verifies_for_anyone(
    certificate: Certificate, filled: Ledger
) -> None:
    content = verify_certificate(certificate, verify)
    assert content["data"] == {
        "objects": 3,
        "bytes": 3003,
        "first_at": "2026-11-24T12:00:00.123Z",
        "last_at": "2026-11-24T12:00:02.123Z",
        "reasons": ["purged"],
    }
    assert content["validation"]["decision"] == "adequate"
    assert verify_certificate(certificate, verify, key=str(filled.head().keys[0]))
    assert verify_certificate(parse_bundle(certificate.bundle()), verify) == content


def test_a_certificate_names_the_items_by_their_random_ids_only(certificate: Certificate) -> None:
    assert item_id(0).encode() in certificate.text
    for word in (b"apple", b"ada", b"/home"):
        assert word not in certificate.text


def test_the_check_sees_every_item(filled: Ledger) -> None:
    seen: list[ItemId] = []

    def check(ids: Sequence[ItemId]) -> list[CheckResult]:
        seen.extend(ids)
        return passed(ids)

    seq = filled.append_deaths(deaths(4, 2), NOON)
    assert seq is not None
    issue_deletion(filled, AccountKeys(), seq, FACTS, check, NOON)
    assert seen == [item_id(4), item_id(5)]


def test_no_certificate_is_issued_when_a_check_fails_or_none_was_made(filled: Ledger) -> None:
    seq = filled.append_deaths(deaths(0, 1), NOON)
    assert seq is not None
    failed = CheckResult(name="search for the key", passed=False, sample=1, detail="1 hit")
    with pytest.raises(CertificateRefused) as caught:
        issue_deletion(filled, AccountKeys(), seq, FACTS, lambda ids: [*passed(ids), failed], NOON)
    assert caught.value.details == {"failed": ["search for the key"]}
    with pytest.raises(CertificateRefused, match="nothing was checked"):
        issue_deletion(filled, AccountKeys(), seq, FACTS, lambda ids: [], NOON)


def test_only_a_deletion_is_certified(filled: Ledger) -> None:
    with pytest.raises(NotFound):
        issue_deletion(filled, AccountKeys(), 0, FACTS, passed, NOON)


def test_an_unmet_precondition_is_said_and_limits_the_decision(filled: Ledger) -> None:
    seq = filled.append_deaths(deaths(0, 1), NOON)
    assert seq is not None
    unmet = Precondition(
        name="all backups accounted for", met=False, evidence="a backup of 2026-11-01 is known"
    )
    facts = DeletionFacts(
        **{name: getattr(FACTS, name) for name in FACTS.__dataclass_fields__} | {"preconditions": (unmet,)}
    )
    content = verify_certificate(issue_deletion(filled, AccountKeys(), seq, facts, passed, NOON), verify)
    assert content["validation"]["decision"].startswith("adequate only")
    assert content["preconditions"][0]["met"] is False


@pytest.mark.parametrize("position", [0, 7, 300, -2])
def test_one_changed_byte_and_the_certificate_is_invalid(certificate: Certificate, position: int) -> None:
    text = bytearray(certificate.text)
    text[position] ^= 1
    with pytest.raises(CertificateInvalid):
        verify_certificate(
            Certificate(text=bytes(text), ed25519=certificate.ed25519, ssh=certificate.ssh), verify
        )


def test_each_signature_is_needed(certificate: Certificate) -> None:
    other = sign(certificate.text, AccountKeys(2))
    for ed25519, ssh in ((other.ed25519, certificate.ssh), (certificate.ed25519, other.ssh)):
        with pytest.raises(CertificateInvalid, match="signature is wrong"):
            verify_certificate(Certificate(text=certificate.text, ed25519=ed25519, ssh=ssh), verify)


@pytest.mark.parametrize("ssh", ["", "x", "a\nb\nc\nd", "-----BEGIN SSH SIGNATURE-----\né\n-----END\n"])
def test_what_is_no_ssh_signature_is_refused(certificate: Certificate, ssh: str) -> None:
    with pytest.raises(CertificateInvalid, match="SSH"):
        verify_certificate(Certificate(text=certificate.text, ed25519=certificate.ed25519, ssh=ssh), verify)


def test_a_key_that_the_reader_does_not_trust_is_not_enough(certificate: Certificate, filled: Ledger) -> None:
    other = str(filled.head().keys[0]).replace("ledger/5f", "ledger/60")
    with pytest.raises(CertificateInvalid, match="another key"):
        verify_certificate(certificate, verify, key=other)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["schema"], "fluxctx.deletion-certificate/2", "of this version"),
        (["data", "objects"], 4, "counts other objects"),
        (["data", "bytes"], 1, "counts other objects"),
        (["verification"], [], "own checks"),
        (["verification", 0, "passed"], False, "own checks"),
        (["verification", 0, "passed"], 1, "own checks"),
        (["evidence", "receipts"], [], "not those"),
        (["evidence", "receipts", 0], "{}", "does not verify"),
        (["evidence", "entry"], "{}", "does not verify"),
        (["evidence", "proof"], "", "does not verify"),
        (["evidence", "vkey"], "x", "does not verify"),
        (["evidence", "receipts"], 5, "does not parse"),
        (["data"], None, "does not parse"),
        (["evidence"], [], "does not parse"),
    ],
)
def test_even_its_own_signer_cannot_make_a_certificate_say_more_than_its_evidence(
    certificate: Certificate, where: list[Any], value: object, message: str
) -> None:
    with pytest.raises(CertificateInvalid, match=message):
        verify_certificate(changed(certificate, where, value), verify)


def test_an_entry_that_is_no_deletion_proves_none(certificate: Certificate, filled: Ledger) -> None:
    other = changed(certificate, ["evidence", "entry"], filled.entries(limit=1)[0].line.decode())
    other = changed(other, ["evidence", "proof"], str(filled.inclusion_proof(0)))
    with pytest.raises(CertificateInvalid, match="not those"):
        verify_certificate(other, verify)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b'{"certificate":{},"ed25519":"!","ssh":""}'])
def test_what_is_no_bundle_is_refused(raw: bytes) -> None:
    with pytest.raises(CertificateInvalid, match="parse"):
        parse_bundle(raw)


# --- standard tools ----------------------------------------------------------------------------------


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"not run: {name} is missing")
    return found


def ssh_verify(
    directory: Path, text: bytes, signature: str, namespace: str
) -> subprocess.CompletedProcess[bytes]:
    line = sshsig.public_line(AccountKeys().public_key, "")
    (directory / "allowed").write_text(f'ledger namespaces="{NAMESPACE}" {line}\n')
    (directory / "text.sshsig").write_text(signature)
    command = [tool("ssh-keygen"), "-Y", "verify", "-f", "allowed", "-I", "ledger", "-n", namespace]
    command += ["-s", "text.sshsig"]
    return subprocess.run(command, input=text, cwd=directory, capture_output=True, timeout=30)


def test_ssh_keygen_verifies_a_certificate(certificate: Certificate, tmp_path: Path) -> None:
    good = ssh_verify(tmp_path, certificate.text, certificate.ssh, NAMESPACE)
    assert good.returncode == 0, good.stderr
    assert b"Good" in good.stdout
    assert ssh_verify(tmp_path, certificate.text + b" ", certificate.ssh, NAMESPACE).returncode != 0
    assert ssh_verify(tmp_path, certificate.text, certificate.ssh, "git").returncode != 0


def test_ssh_keygen_prints_the_fingerprint_that_documents_print(tmp_path: Path) -> None:
    keys = AccountKeys()
    (tmp_path / "key.pub").write_text(sshsig.public_line(keys.public_key, "ledger") + "\n")
    shown = subprocess.run(
        [tool("ssh-keygen"), "-l", "-f", tmp_path / "key.pub"], capture_output=True, timeout=30
    )
    assert sshsig.fingerprint(keys.public_key) in shown.stdout.decode()


def openssl_verify(directory: Path, text: bytes, signature: bytes) -> bool:
    (directory / "public.pem").write_bytes(AccountKeys().pem())
    (directory / "text").write_bytes(text)
    (directory / "text.sig").write_bytes(signature)
    command = [
        tool("openssl"),
        "pkeyutl",
        "-verify",
        "-rawin",
        "-in",
        "text",
        "-pubin",
        "-inkey",
        "public.pem",
    ]
    command += ["-sigfile", "text.sig"]
    return subprocess.run(command, cwd=directory, capture_output=True, timeout=30).returncode == 0


def test_openssl_verifies_a_certificate_and_a_checkpoint(
    certificate: Certificate, filled: Ledger, tmp_path: Path
) -> None:
    assert openssl_verify(tmp_path, certificate.text, certificate.ed25519)
    assert not openssl_verify(tmp_path, certificate.text + b" ", certificate.ed25519)
    text, _, signature = filled.checkpoint().rpartition("\n\n")
    raw = base64.b64decode(signature.split(" ")[2])[4:]
    assert openssl_verify(tmp_path, (text + "\n").encode(), raw)


def test_the_commands_in_the_documentation_do_what_it_says(
    certificate: Certificate, filled: Ledger, tmp_path: Path
) -> None:
    for name in ("sh", "openssl", "ssh-keygen", "base64", "sed"):
        tool(name)
    document = (Path(__file__).parents[2] / "docs" / "concepts" / "ledger.md").read_text("utf-8")
    script = document.split("```sh\n")[1].split("```")[0]
    (tmp_path / "vkey").write_text(str(filled.head().keys[-1]) + "\n")
    (tmp_path / "checkpoint").write_text(filled.checkpoint())
    (tmp_path / "certificate.json").write_bytes(certificate.text)
    (tmp_path / "certificate.json.sig").write_bytes(certificate.ed25519)
    (tmp_path / "certificate.json.sshsig").write_text(certificate.ssh)

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    good = run()
    assert good.returncode == 0, good.stderr
    assert good.stdout.count("Signature Verified Successfully") == 2
    assert sshsig.fingerprint(AccountKeys().public_key) in good.stdout
    assert "Good" in good.stdout
    (tmp_path / "certificate.json").write_bytes(certificate.text.replace(b"expired", b"Expired") + b" ")
    assert run().returncode != 0
