"""Attach and read C2PA credentials, in memory.  Runs in the child; the key stays with the parent.

c2pa-rs is told to stay off the network (its default would fetch a remote manifest that a hostile picture
names) and to embed no thumbnail; the kernel would refuse the first anyway.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import c2pa

from fluxctx.media.faults import BadPicture

_MAX_MANIFEST_CHARACTERS = 512 * 1024  # what is handed on of a stranger's manifest


def attach(
    content: bytes, mime: str, manifest: Mapping[str, Any], chain: str, sign: Callable[[bytes], bytes]
) -> bytes:
    """Sign a finished file; nothing may change in it afterwards.

    Args:
        content: The file with its XMP.
        mime: Its type.
        manifest: The manifest definition (provenance.manifest).
        chain: Leaf and root certificate, PEM.
        sign: ES256 over the bytes it is given: r then s, 64 bytes.
    """
    signer = c2pa.Signer.from_callback(sign, c2pa.C2paSigningAlg.ES256, chain)
    signed = BytesIO()
    with (
        c2pa.Context.from_dict(_settings(chain)) as context,
        c2pa.Builder(dict(manifest), context) as builder,
    ):
        builder.sign(signer, mime, BytesIO(content), signed)
    return signed.getvalue()


def read(content: bytes, mime: str, anchors: str) -> dict[str, Any] | None:
    """Read the active manifest and say how far it holds.

    Args:
        content: Anybody's file.
        mime: Its type.
        anchors: PEM certificates that are trusted, or nothing.

    Returns:
        None without a manifest; else state ("Trusted", "Valid" or "Invalid"), failures (codes of the C2PA
        specification), claim_generator, issuer, assertions {label: data}, ingredients (their number).
    """
    try:
        with (
            c2pa.Context.from_dict(_settings(anchors)) as context,
            c2pa.Reader(mime, BytesIO(content), context=context) as reader,
        ):
            store = json.loads(reader.json())
            state = reader.get_validation_state()
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError:
        return {"state": "Invalid", "failures": ["unreadable"], "assertions": {}, "ingredients": 0}
    if len(json.dumps(store)) > _MAX_MANIFEST_CHARACTERS:
        raise BadPicture("manifest_too_long")
    results = store.get("validation_results", {}).get("activeManifest", {})
    active = store["manifests"][store["active_manifest"]]
    return {
        "state": str(state),
        "failures": sorted({str(entry["code"]) for entry in results.get("failure", [])}),
        "claim_generator": active.get("claim_generator_info", []),
        "issuer": active.get("signature_info", {}).get("issuer"),
        "assertions": {entry["label"]: entry["data"] for entry in active.get("assertions", [])},
        "ingredients": len(active.get("ingredients", [])),
    }


def _settings(anchors: str) -> dict[str, Any]:
    trust = {"trust": {"user_anchors": anchors}} if anchors else {}
    return {
        "version": 1,
        "builder": {
            "thumbnail": {"enabled": False},
            "created_assertion_labels": ["c2pa.actions", "c2pa.actions.v2", "cawg.training-mining"],
        },
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": True},
        **trust,
    }
