"""The XMP packet of a copy: pure text, the same for the same arguments.

Three statements stand in every packet, and no argument leaves one out:

- Iptc4xmpExt:DigitalSourceType  made by a trained model (IPTC NewsCodes; EU AI Act Art. 50(2));
- plus:DataMining                no training of generative models (PLUS vocabulary);
- tdm:reservation = 1            text and data mining is reserved (W3C TDMRep; EU 2019/790 Art. 4(3)).

Source: ISO 16684-1:2019 (XMP); https://cv.iptc.org/newscodes/digitalsourcetype; PLUS LDF 2.0.1; W3C TDMRep.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

Origin = Literal["generated", "edited"]
Metadata = Literal["none", "minimal", "full"]

SOURCE_TYPES: Final[dict[Origin, str]] = {
    "generated": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    "edited": "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
}
NO_TRAINING: Final = "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-AIMLTRAINING"

IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
PLUS: Final = "http://ns.useplus.org/ldf/xmp/1.0/"
TDM: Final = "http://www.w3.org/ns/tdmrep/"
XMP: Final = "http://ns.adobe.com/xap/1.0/"
FLUXCTX: Final = "https://fluxctx.dev/ns/xmp/1.0/"

_NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""{namespaces}>
{properties}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def packet(
    *, origin: Origin, tool: str, metadata: Metadata = "minimal", recipe: Mapping[str, Any] | None = None
) -> str:
    """Write the packet of one copy.

    Args:
        origin: "generated" from text, or "edited" from a picture that was given.
        tool: Name and version, e.g. "fluxctx 0.1.0"; left out with metadata "none".
        metadata: "none" and "minimal" add no prompt, seed, account or host; "full" embeds `recipe`.
        recipe: The item's recipe; read only with "full".

    Raises:
        ValueError: "full" without a recipe.
    """
    properties = [
        ("Iptc4xmpExt", IPTC, "DigitalSourceType", SOURCE_TYPES[origin]),
        ("plus", PLUS, "DataMining", NO_TRAINING),
        ("tdm", TDM, "reservation", "1"),
    ]
    if metadata != "none":
        properties.append(("xmp", XMP, "CreatorTool", tool))
    if metadata == "full":
        if recipe is None:
            raise ValueError("full metadata embeds a recipe")
        text = json.dumps(recipe, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        properties.append(("fluxctx", FLUXCTX, "Recipe", text))
    return _PACKET.format(
        namespaces="".join(f'\n    xmlns:{prefix}="{uri}"' for prefix, uri, _, _ in properties),
        properties="\n".join(
            f"   <{prefix}:{name}>{_text(value)}</{prefix}:{name}>" for prefix, _, name, value in properties
        ),
    )


def _text(value: str) -> str:
    """Escape for XML 1.0; what XML cannot hold becomes JSON's own escape, so a recipe reads back."""
    return html.escape(_NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", value), quote=False)
