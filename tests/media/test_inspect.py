"""Reading marks out of strangers' files."""

from __future__ import annotations

from typing import Any

import pytest

from fluxctx.media.inspect import MAX_PACKET_BYTES, inspect, read_packet
from tests.media.pictures import saved, scene

RDF = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b"%s</rdf:RDF></x:xmpmeta>"
)


def test_properties_are_read_as_elements_attributes_and_resources() -> None:
    body = (
        b'<rdf:Description rdf:about="" xmlns:a="urn:a" a:one="1">'
        b'<a:two>2</a:two><a:three rdf:resource="http://three"/></rdf:Description>'
    )
    assert read_packet(RDF % body) == {"{urn:a}one": "1", "{urn:a}two": "2", "{urn:a}three": "http://three"}


@pytest.mark.parametrize("packet", [
    b"",
    b"<unclosed",
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><x>&a;</x>',
    b"<?xml version='1.0'?><!DOCTYPE lolz SYSTEM 'http://evil.example/x.dtd'><x/>",
    b"<x>" + b"y" * MAX_PACKET_BYTES + b"</x>",
    b"\xff\xfe\x00garbage",
])  # fmt: skip
def test_a_packet_that_is_no_plain_rdf_is_reported_as_damaged(packet: bytes) -> None:
    assert read_packet(packet) is None


def test_entities_hidden_by_utf_16_expand_to_nothing_either() -> None:
    bomb = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x [<!ENTITY a "aa">]><x>&a;</x>'.encode("utf-16")
    assert read_packet(bomb) is None


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_packet_does_not_hide_the_picture(name: str) -> None:
    options: dict[str, Any] = {"xmp": b"<broken"}
    if name == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", "<broken")
    facts = inspect(saved(scene(), name, **options))
    assert facts["marks"]["xmp"] is None
    assert facts["marks"]["xmp_damaged"] is True
    assert (facts["width_px"], facts["height_px"]) == (96, 64)


def test_no_packet_is_not_a_damaged_packet() -> None:
    facts = inspect(saved(scene()))
    nothing = {"xmp": None, "xmp_damaged": False, "credential": None, "watermark": None}
    assert facts["marks"] == nothing
    assert facts["mime"] == "image/png"
