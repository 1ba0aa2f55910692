"""Deletion certificates: what was deleted, how, what was checked afterwards, and the ledger's proof of it.

The fields follow NIST SP 800-88 Rev. 1 appendix G with Rev. 2's split of verification (the technique
finished) and validation (the result is adequate).  A certificate holds no personal data, outlives the
account, and verifies offline: with `verify_certificate`, `ssh-keygen -Y verify` or `openssl pkeyutl`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from fluxctx.domain import Death, ItemId
from fluxctx.errors import CertificateInvalid, CertificateRefused, IntegrityError
from fluxctx.ledger import canonical, entry, note, sshsig, tree
from fluxctx.ledger.store import Keys, Ledger

SCHEMA = "fluxctx.deletion-certificate/1"
NAMESPACE = "fluxctx-certificate"
METHOD = (
    "cryptographic erase applied to logical objects, aligned with the concepts of NIST SP 800-88 Rev. 2: the "
    "only copy of each item's key is overwritten in place and synced, then its sealed files are unlinked"
)
MEDIUM = "logical objects were sanitised; the medium itself was not"
DESTINATION = "not applicable: logical objects; the medium stays in use"
RESIDUAL_RISK = (
    "copies that the owner exported or that left the vault in any other way",
    "snapshots and backups made by other software",
    "what a flash device's controller keeps of overwritten blocks; swap and hibernation images",
    "memory of processes that had the item open",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check made after the deletion: what was tried, on how many objects, and how it came out."""

    name: str
    passed: bool
    sample: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """One condition of a cryptographic erase, with what was looked at; unmet ones are printed as such."""

    name: str
    met: bool
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionFacts:
    """What the ledger cannot know; every word is observed or said by somebody, none is assumed."""

    number: str  # random, 32 hex digits
    authority: Literal["owner request", "retention", "account end"]
    performed_by: str  # a name and title, or "automated, unattended"
    validated_by: str
    account: str  # keyed digest of the account: recognisable to its owner only
    system: str  # random id of the installation
    version: str
    medium: Mapping[str, str] = field(default_factory=dict)  # filesystem, volume, encryption: best effort
    preconditions: tuple[Precondition, ...]
    backups: tuple[str, ...] = ()  # known official backups that still hold the items, with their ends


Check = Callable[[Sequence[ItemId]], Sequence[CheckResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The signed bytes and both signatures; write `text` to a file and the signatures beside it."""

    text: bytes  # canonical JSON
    ed25519: bytes  # raw, for `openssl pkeyutl -verify -rawin`
    ssh: str  # armoured, for `ssh-keygen -Y verify`

    def bundle(self) -> bytes:
        """One file with everything, for keeping."""
        value = {
            "certificate": canonical.parse(self.text),
            "ed25519": canonical.encode64(self.ed25519),
            "ssh": self.ssh,
        }
        return canonical.render(value) + b"\n"


def issue_deletion(
    ledger: Ledger, keys: Keys, seq: int, facts: DeletionFacts, check: Check, at: datetime
) -> Certificate:
    """Certify the deletions of batch entry `seq`, after checking them.

    Args:
        ledger: The account's, unlocked; it is signed up to now.
        keys: The same account's; they sign.
        seq: What `append_deaths` returned.
        facts: What the ledger cannot know.
        check: Tries to open and to find the items; at least one result, all passed, or nothing is issued.
        at: Now.

    Raises:
        CertificateRefused: a check failed or none was made; details name it.
        NotFound: no such deletion.
        LedgerDamaged: the ledger does not verify.
    """
    receipts = ledger.receipts(seq)
    deaths = [entry.read_receipt(line) for line in receipts]
    results = check([death.id for death in deaths if death.id is not None])
    failed = [one.name for one in results if not one.passed]
    if failed or not results:
        raise CertificateRefused(
            "a check after the deletion failed" if failed else "nothing was checked after the deletion",
            hint="`fluxctx vault verify` shows what is left; nothing was certified",
            details={"failed": failed},
        )
    ledger.checkpoint()
    evidence = {
        "entry": ledger.entries(seq - 1, 1)[0].line.decode(),
        "proof": str(ledger.inclusion_proof(seq)),
        "receipts": [line.decode() for line in receipts],
        "vkey": str(ledger.head().keys[-1]),
    }
    return sign(canonical.render(_content(facts, deaths, results, evidence, at)), keys)


def sign(text: bytes, keys: Keys) -> Certificate:
    """Sign canonical JSON twice with the ledger's key (spec 6)."""
    ssh = sshsig.sign(text, NAMESPACE, keys.public_key, keys.sign)
    return Certificate(text=text, ed25519=keys.sign(text), ssh=ssh)


def _content(
    facts: DeletionFacts,
    deaths: Sequence[Death],
    results: Sequence[CheckResult],
    evidence: Mapping[str, Any],
    at: datetime,
) -> dict[str, Any]:
    times = sorted(canonical.utc_text(death.at) for death in deaths)
    met = all(one.met for one in facts.preconditions)
    return {
        "schema": SCHEMA,
        "number": facts.number,
        "issued_at": canonical.utc_text(at),
        "issuer": {"product": "fluxctx", "version": facts.version, "system": facts.system},
        "requester": {
            "account": facts.account,
            "authority": facts.authority,
            "gdpr": "Art. 17(1), Art. 28(3)(g)",
        },
        "performed_by": facts.performed_by,
        "validated_by": facts.validated_by,
        "media": {**facts.medium, "statement": MEDIUM},
        "data": {
            "objects": len(deaths),
            "bytes": sum(death.freed_bytes for death in deaths),
            "first_at": times[0],
            "last_at": times[-1],
            "reasons": sorted({death.reason for death in deaths}),
        },
        "method": {"technique": METHOD, "tool": f"fluxctx {facts.version}"},
        "preconditions": [asdict(one) for one in facts.preconditions],
        "verification": [asdict(one) for one in results],
        "validation": {
            "decision": "adequate" if met else "adequate only as far as the preconditions are met",
            "residual_risk": list(RESIDUAL_RISK),
        },
        "backups": list(facts.backups),
        "destination": DESTINATION,
        "evidence": dict(evidence),
    }


def parse_bundle(raw: bytes) -> Certificate:
    """Read what `bundle` wrote; raises CertificateInvalid."""
    try:
        value = canonical.parse(raw.removesuffix(b"\n"))
        return Certificate(
            text=canonical.render(value["certificate"]),
            ed25519=canonical.decode64(value["ed25519"]),
            ssh=value["ssh"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CertificateInvalid("the certificate does not parse") from error


def verify_certificate(
    certificate: Certificate, verify: note.Verify, *, key: str | None = None
) -> dict[str, Any]:
    """Check a certificate offline, whoever holds it; returns its content.

    Args:
        certificate: From `parse_bundle` or three files.
        verify: Ed25519 verification.
        key: The vkey that the reader trusts, from a second channel.  Without it the certificate is only shown
            to be whole and signed by the key that it names.

    Raises:
        CertificateInvalid: says what does not fit.
    """
    try:
        content = canonical.parse(certificate.text)
        evidence = content["evidence"]
        if content["schema"] != SCHEMA:
            raise CertificateInvalid("not a deletion certificate of this version")
        if key is not None and evidence["vkey"] != key:
            raise CertificateInvalid("the certificate is signed by another key than the trusted one")
        signer = note.parse_key(evidence["vkey"])
        _verify_signatures(certificate, signer, verify)
        _verify_evidence(content, evidence, signer, verify)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CertificateInvalid("the certificate does not parse") from error
    except CertificateInvalid:
        raise
    except IntegrityError as error:
        raise CertificateInvalid(f"the certificate's evidence does not verify: {error.message}") from error
    return dict(content)


def _verify_signatures(certificate: Certificate, signer: note.VerifierKey, verify: note.Verify) -> None:
    if not verify(signer.public_key, certificate.ed25519, certificate.text):
        raise CertificateInvalid("the certificate's Ed25519 signature is wrong")
    if not sshsig.verify(certificate.text, certificate.ssh, NAMESPACE, signer.public_key, verify):
        raise CertificateInvalid("the certificate's SSH signature is wrong")


def _verify_evidence(
    content: Mapping[str, Any], evidence: Mapping[str, Any], signer: note.VerifierKey, verify: note.Verify
) -> None:
    """The entry stands in the signed tree, and the receipts are those it committed to."""
    proof = note.parse_proof(evidence["proof"])
    line = evidence["entry"].encode()
    note.verify_proof(line, proof, [signer], verify)
    batch = entry.read(line, proof.index)
    receipts = [text.encode() for text in evidence["receipts"]]
    deaths = [entry.read_receipt(receipt) for receipt in receipts]
    if batch.event != "deleted" or batch.clear["root"] != tree.root_of(receipts).hex():
        raise CertificateInvalid("the receipts are not those that the ledger's entry committed to")
    data = content["data"]
    if (data["objects"], data["bytes"]) != (len(deaths), sum(death.freed_bytes for death in deaths)):
        raise CertificateInvalid("the certificate counts other objects than its receipts")
    checks = content["verification"]
    if not checks or not all(one["passed"] is True for one in checks):
        raise CertificateInvalid("the certificate's own checks did not pass")
