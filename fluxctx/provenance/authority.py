"""The local authority: one root and one leaf certificate that vouch for an account's copies.

"Signed by your own authority" is all it says: nobody else vouches for the name, and public verifiers call it
untrusted until they are given the root.  The names hold no account, host or person; the key identifiers are
the keys' own digests.  Both keys are made here and handed to the caller, who seals them in the vault.

Source: C2PA technical specification 2.2, 14.5 (certificate profile), as c2pa-rs 0.91 checks it: version 3,
AKI, KU digitalSignature, and both EKUs, since either alone is refused by some verifiers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

ROOT_LIFE: Final = timedelta(days=3650)
LEAF_LIFE: Final = timedelta(days=825)
_CLOCK_SLACK: Final = timedelta(hours=1)  # a verifier's clock may be behind ours
_C2PA_SIGNING: Final = ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
_SCHEMA: Final = "fluxctx.authority/1"
_COORDINATE_BYTES: Final = 32  # P-256


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Certificates and their keys, PEM; `root_key` is needed only to renew the leaf."""

    root: bytes
    leaf: bytes
    leaf_key: bytes = field(repr=False)
    root_key: bytes = field(repr=False)

    @property
    def chain(self) -> bytes:
        """What travels in a copy: the leaf, then the root."""
        return self.leaf + self.root

    @property
    def root_sha256(self) -> str:
        """Fingerprint of the root as documents print it."""
        return x509.load_pem_x509_certificate(self.root).fingerprint(hashes.SHA256()).hex()

    def pack(self) -> bytes:
        """Everything, keys included, as one JSON text for the caller to seal."""
        fields = {name: getattr(self, name).decode() for name in ("root", "root_key", "leaf", "leaf_key")}
        return json.dumps({"schema": _SCHEMA, **fields}).encode()

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Read what pack() wrote; raises ValueError."""
        fields = json.loads(packed)
        if fields.pop("schema", None) != _SCHEMA:
            raise ValueError("not a packed authority")
        return cls(**{name: str(value).encode() for name, value in fields.items()})

    def leaf_ends_at(self) -> datetime:
        """Say from when on copies can no longer be signed with this leaf (aware UTC)."""
        return x509.load_pem_x509_certificate(self.leaf).not_valid_after_utc

    def sign(self, data: bytes) -> bytes:
        """Sign with the leaf's key: ES256 as COSE wants it, r then s, 64 bytes."""
        key = serialization.load_pem_private_key(self.leaf_key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")


def make_authority(now: datetime) -> Authority:
    """Make a root and a leaf, valid from an hour before `now` (aware UTC)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("fluxctx local authority")
    root = (
        _certificate(name, name, key.public_key(), now, ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _with_leaf(_pem(root), _key_pem(key), now)


def renew_leaf(authority: Authority, now: datetime) -> Authority:
    """Make a new leaf under the same root; copies signed before stay valid."""
    return _with_leaf(authority.root, authority.root_key, now)


def _with_leaf(root_pem: bytes, root_key_pem: bytes, now: datetime) -> Authority:
    root = x509.load_pem_x509_certificate(root_pem)
    root_key = serialization.load_pem_private_key(root_key_pem, None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    life = min(LEAF_LIFE, root.not_valid_after_utc - now)
    leaf = (
        _certificate(_name("fluxctx copy"), root.subject, public, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION, _C2PA_SIGNING]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )
    return Authority(root=root_pem, root_key=root_key_pem, leaf=_pem(leaf), leaf_key=_key_pem(key))


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + life)
    )


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "fluxctx"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
