"""Credentials: signed by the account's own authority, verified by c2pa, broken by one changed byte."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxctx.domain import Size
from fluxctx.errors import MediaFailed, MediaInvalid
from fluxctx.media.client import MediaRoom
from fluxctx.media.marks import Credential, Marks
from fluxctx.provenance.authority import Authority, make_authority, renew_leaf
from fluxctx.provenance.manifest import manifest
from fluxctx.provenance.verify import interpret, read_assertions
from fluxctx.provenance.xmp import Origin, packet
from tests.media.pictures import opened, raw, saved, scene, with_sums

NOW = datetime.now(UTC)  # c2pa checks certificates against the real clock
SECRETS = ("red apple", "alice", "box.local")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority(NOW)


def marks_of(authority: Authority, origin: Origin = "generated", input_mime: str | None = None) -> Marks:
    claim = manifest(origin=origin, tool="fluxctx", version="0", input_mime=input_mime)
    return Marks(
        xmp=packet(origin=origin, tool="fluxctx 0"),
        credential=Credential(manifest=claim, chain=authority.chain, sign=authority.sign),
    )


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp"])
def test_a_copy_is_trusted_under_its_own_root_and_only_valid_without(
    room: MediaRoom, authority: Authority, fmt: Any
) -> None:
    copy = room.mark_copy(saved(scene()), "image/png", fmt=fmt, marks=marks_of(authority))

    trusted = read_assertions(copy, room, anchors=authority.root)
    assert trusted.credential == "Trusted"
    assert trusted.credential_failures == ()
    assert trusted.credential_ai_generated is True
    assert trusted.credential_training_allowed is False
    assert trusted.credential_issuer == "fluxctx"

    assert read_assertions(copy, room).credential == "Valid"
    foreign = make_authority(NOW)
    assert read_assertions(copy, room, anchors=foreign.root).credential == "Valid"


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp"])
def test_one_changed_byte_of_the_picture_is_invalid(room: MediaRoom, authority: Authority, fmt: Any) -> None:
    copy = room.mark_copy(saved(scene(200, 150)), "image/png", fmt=fmt, marks=marks_of(authority))
    start = {"png": b"XML:com.adobe.xmp", "jpeg": b"\xff\xda", "webp": b"VP8 "}[fmt]
    at = copy.rindex(start) + 300
    changed = bytearray(copy)
    changed[at] ^= 1
    said = read_assertions(with_sums(bytes(changed)), room, anchors=authority.root)
    assert said.credential == "Invalid"
    assert said.credential_failures
    assert said.credential_ai_generated is None
    assert said.credential_training_allowed is None


def test_edited_xmp_breaks_the_credential(room: MediaRoom, authority: Authority) -> None:
    copy = room.mark_copy(saved(scene()), "image/png", fmt="webp", marks=marks_of(authority))
    changed = copy.replace(b"DMI-PROHIBITED-AIMLTRAINING", b"DMI-ALLOWED-AIMLTRAINING   ")
    assert read_assertions(changed, room, anchors=authority.root).credential == "Invalid"


def test_an_edit_names_its_input_as_an_ingredient_without_its_bytes(
    room: MediaRoom, authority: Authority
) -> None:
    marks = marks_of(authority, "edited", "image/jpeg")
    copy = room.mark_copy(saved(scene()), "image/png", fmt="png", marks=marks)
    credential = room.inspect(copy, anchors=authority.root)["marks"]["credential"]
    assert credential["state"] == "Trusted"
    assert credential["ingredients"] == 1
    actions = credential["assertions"]["c2pa.actions.v2"]["actions"]
    assert [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]
    assert actions[1]["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")


def test_the_pixels_of_a_signed_copy_are_those_of_an_unsigned_one(
    room: MediaRoom, authority: Authority
) -> None:
    image = raw(scene(120, 80))
    original = room.encode(image, size=Size(width_px=120, height_px=80)).original
    copy = room.mark_copy(original, "image/png", fmt="png", marks=marks_of(authority))
    assert opened(copy).tobytes() == image.pixels


def test_a_copy_holds_no_thumbnail_and_no_secret(room: MediaRoom, authority: Authority) -> None:
    copy = room.mark_copy(saved(scene()), "image/png", fmt="webp", marks=marks_of(authority))
    assert b"thumbnail" not in copy
    assert len(copy) < len(saved(scene(), "WEBP", quality=92)) + 20_000
    assert not [secret for secret in SECRETS if secret.encode() in copy]


def test_a_key_that_does_not_answer_leaves_no_copy(room: MediaRoom, authority: Authority) -> None:
    def wrong(data: bytes) -> bytes:
        return bytes(64)

    claim = manifest(origin="generated", tool="fluxctx", version="0")
    marks = Marks(
        xmp=packet(origin="generated", tool="t"),
        credential=Credential(manifest=claim, chain=authority.chain, sign=wrong),
    )
    with pytest.raises(MediaFailed):
        room.mark_copy(saved(scene()), "image/png", fmt="png", marks=marks)


def test_a_foreign_credential_cannot_make_the_reader_go_online_or_break(room: MediaRoom) -> None:
    hostile = saved(scene(), "JPEG", xmp=b'<x dcterms:provenance="https://evil.example/c2pa"/>')
    facts = room.inspect(hostile)
    assert facts["marks"]["credential"] is None or facts["marks"]["credential"]["state"] == "Invalid"


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_mutated_credential_is_never_trusted_for_other_bytes(
    room: MediaRoom, authority: Authority, data: st.DataObject
) -> None:
    copy = signed_once(room, authority)
    at = data.draw(st.integers(copy.index(b"C2PA"), len(copy) - 1))
    changed = bytearray(copy)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        marks = room.inspect(bytes(changed), anchors=authority.root)["marks"]
    except MediaInvalid:
        return
    if marks["credential"] is not None and marks["credential"]["state"] == "Trusted":
        # the container's own labels and the unused room behind the signature are covered by nothing
        assert marks == room.inspect(copy, anchors=authority.root)["marks"]


@functools.cache
def signed_once(room: MediaRoom, authority: Authority) -> bytes:
    return room.mark_copy(saved(scene()), "image/png", fmt="webp", marks=marks_of(authority))


def test_no_prompt_or_name_is_in_a_manifest() -> None:
    text = json.dumps(manifest(origin="edited", tool="fluxctx", version="0", input_mime="image/png"))
    assert set(json.loads(text)) == {"claim_generator_info", "assertions", "ingredients"}
    assert "file" not in text


# --- the authority ------------------------------------------------------------------------------------


def test_certificates_name_no_person_account_or_host(authority: Authority) -> None:
    for pem in (authority.root, authority.leaf):
        certificate = x509.load_pem_x509_certificate(pem)
        names = {attribute.value for attribute in certificate.subject}
        assert names <= {"fluxctx", "fluxctx local authority", "fluxctx copy"}
        kinds = {extension.oid.dotted_string for extension in certificate.extensions}
        assert "2.5.29.17" not in kinds  # no alternative names


def test_a_renewed_leaf_has_the_same_root_and_old_copies_stay_trusted(
    room: MediaRoom, authority: Authority
) -> None:
    old = room.mark_copy(saved(scene()), "image/png", fmt="png", marks=marks_of(authority))
    renewed = renew_leaf(authority, NOW)
    new = room.mark_copy(saved(scene()), "image/png", fmt="png", marks=marks_of(renewed))
    assert renewed.root == authority.root
    assert renewed.leaf != authority.leaf
    for copy in (old, new):
        assert read_assertions(copy, room, anchors=authority.root).credential == "Trusted"


def test_a_leaf_never_outlives_its_root(authority: Authority) -> None:
    late = NOW + timedelta(days=3600)
    root = x509.load_pem_x509_certificate(authority.root)
    assert renew_leaf(authority, late).leaf_ends_at() <= root.not_valid_after_utc


def test_signatures_are_es256_in_the_form_that_cose_wants(authority: Authority) -> None:
    signature = authority.sign(b"claim")
    assert len(signature) == 64
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    public = x509.load_pem_x509_certificate(authority.leaf).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(utils.encode_dss_signature(r, s), b"claim", ec.ECDSA(hashes.SHA256()))


def test_an_authority_comes_back_from_what_was_sealed(authority: Authority) -> None:
    assert Authority.unpack(authority.pack()) == authority
    for other in (b"", b"{}", b'{"schema":"x"}'):
        with pytest.raises(ValueError):
            Authority.unpack(other)


def test_keys_are_not_in_the_repr(authority: Authority) -> None:
    assert "PRIVATE" not in repr(authority)


def test_openssl_verifies_the_chain(authority: Authority, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("not run: openssl is missing")
    (tmp_path / "root.pem").write_bytes(authority.root)
    (tmp_path / "leaf.pem").write_bytes(authority.leaf)
    command = [openssl, "verify", "-x509_strict", "-purpose", "smimesign", "-CAfile", "root.pem", "leaf.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "leaf.pem: OK", done.stderr


# --- what strangers write -----------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
LABELS = ("c2pa.actions", "c2pa.actions.v2", "cawg.training-mining", "other")
credentials = st.fixed_dictionaries(
    {"state": st.sampled_from(["Trusted", "Valid", "Invalid", "Perfect"])},
    optional={
        "failures": json_values,
        "issuer": json_values,
        "assertions": json_values | st.dictionaries(st.sampled_from(LABELS), json_values, max_size=3),
    },
)


@given(credential=credentials, xmp=json_values, watermark=json_values)
def test_marks_of_any_shape_are_read_without_a_failure(credential: Any, xmp: Any, watermark: Any) -> None:
    marks = {"xmp": xmp, "xmp_damaged": False, "credential": credential, "watermark": watermark}
    said = interpret({"format": "png", "width_px": 1, "height_px": 1, "marks": marks})
    assert said.credential in ("Trusted", "Valid", "Invalid")
    assert json.dumps(said.as_dict())


def test_a_stranger_s_words_cannot_steer_a_terminal() -> None:
    name = "{http://ns.adobe.com/xap/1.0/}CreatorTool"
    hostile = "\x1b[2J\x9b31mnice\u202etool\r\n" + "x" * 1000
    credential = {"state": "Valid", "issuer": hostile, "failures": [hostile]}
    marks = {"xmp": {name: hostile}, "xmp_damaged": False, "credential": credential, "watermark": None}
    said = interpret({"format": "png", "width_px": 1, "height_px": 1, "marks": marks})
    for text in (said.tool, said.credential_issuer, *said.credential_failures):
        assert text is not None
        assert text.isprintable()
        assert len(text) <= 200
