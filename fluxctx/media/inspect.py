"""Read what any picture file asserts about itself.  Runs in the child: the file is a stranger's.

The XMP packet is flattened to {"{namespace}Name": text}; what the names mean is provenance/verify.py's
business.
"""

from __future__ import annotations

from typing import Any, Final
from xml.etree import ElementTree as ET

from PIL import Image

from fluxctx.media.decode import open_picture
from fluxctx.media.headers import read_header

MAX_PACKET_BYTES: Final = 2 * 1024 * 1024
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def inspect(content: bytes, *, watermark: bool = False, anchors: str = "") -> dict[str, Any]:
    """Say what the file is and what it carries.

    Args:
        content: Anybody's file.
        watermark: Also look for the invisible mark (most of a CPU second).
        anchors: Certificates that a credential's signer may descend from to be called trusted, PEM.

    Returns:
        format, mime, width_px, height_px, mode and marks:
        marks.xmp: properties by "{namespace}Name", or None without a packet; marks.xmp_damaged: a packet is
        there but cannot be read; marks.credential: see credentials.read; marks.watermark: see
        watermark.detect, None where it was not looked for or the picture is too small.

    Raises:
        BadPicture: the file is no whole picture.
    """
    header = read_header(content)
    picture = open_picture(content)
    packet = packet_of(picture)
    properties = read_packet(packet) if packet is not None else None
    mime = f"image/{header.format}"
    marks = {
        "xmp": properties,
        "xmp_damaged": packet is not None and properties is None,
        "credential": _credential(content, mime, anchors),
        "watermark": _watermark(picture) if watermark else None,
    }
    return {
        "format": header.format,
        "mime": mime,
        "width_px": header.width_px,
        "height_px": header.height_px,
        "mode": picture.mode,
        "marks": marks,
    }


def _credential(content: bytes, mime: str, anchors: str) -> dict[str, Any] | None:
    if b"c2pa" not in content:  # no manifest store is without its name
        return None
    from fluxctx.media import credentials

    return credentials.read(content, mime, anchors)


def _watermark(picture: Image.Image) -> dict[str, Any] | None:
    from fluxctx.media import watermark
    from fluxctx.media.decode import flat_rgb

    return watermark.detect(flat_rgb(picture)) if watermark.can_hold_mark(picture) else None


def packet_of(picture: Image.Image) -> bytes | None:
    """Find the XMP packet where each format keeps it."""
    found = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp")
    if isinstance(found, str):
        return found.encode()
    return found if isinstance(found, bytes) else None


def read_packet(packet: bytes) -> dict[str, str] | None:
    """Flatten a packet; None when it is not well-formed RDF, too long, or declares entities."""
    if len(packet) > MAX_PACKET_BYTES or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return None
    try:
        root = ET.fromstring(packet.strip(b"\0 \r\n\t"))  # noqa: S314 - no entities, confined child
    except ET.ParseError:
        return None
    properties: dict[str, str] = {}
    for node in root.iter(f"{_RDF}Description"):
        properties |= {name: value for name, value in node.attrib.items() if name != f"{_RDF}about"}
        for child in node:
            resource = child.attrib.get(f"{_RDF}resource")
            properties[child.tag] = resource if resource is not None else "".join(child.itertext()).strip()
    return properties
