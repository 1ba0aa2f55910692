"""The C2PA manifest of a copy: pure data, who made it how, and what it may not be used for.

Nothing of the request is in it: no prompt, seed, account, host or file name.  Times stay out: a time stamp
authority would be a connection, and a date of our own clock proves nothing.

Source: C2PA technical specification 2.2 (actions v2, ingredient v3); CAWG training and data mining 1.1.
"""

from __future__ import annotations

from typing import Any, Final

from fluxctx.provenance.xmp import SOURCE_TYPES, Origin

_INGREDIENT_ID: Final = "xmp:iid:input"
# Inference stays unmentioned: its refusal would forbid the owner's own next edit of this very picture.
NOT_ALLOWED: Final = ("cawg.ai_generative_training", "cawg.ai_training", "cawg.data_mining")


def manifest(*, origin: Origin, tool: str, version: str, input_mime: str | None = None) -> dict[str, Any]:
    """Define the manifest that media/ attaches.

    Args:
        origin: "generated" from text, or "edited" from a picture that was given.
        tool: Claim generator, "fluxctx".
        version: Its version.
        input_mime: For "edited": the type of the picture it was made from, which becomes an ingredient
            without its bytes, its name or its digest.
    """
    source = SOURCE_TYPES[origin]
    opened = origin == "edited" and input_mime is not None
    actions: list[dict[str, Any]] = [{"action": "c2pa.created", "digitalSourceType": source}]
    if opened:
        actions = [
            {"action": "c2pa.opened", "parameters": {"org.cai.ingredientIds": [_INGREDIENT_ID]}},
            {"action": "c2pa.edited", "digitalSourceType": source},
        ]
    refused = {name: {"use": "notAllowed"} for name in NOT_ALLOWED}
    definition: dict[str, Any] = {
        "claim_generator_info": [{"name": tool, "version": version}],
        "assertions": [
            {"label": "c2pa.actions", "data": {"actions": actions}},
            {"label": "cawg.training-mining", "data": {"entries": refused}},
        ],
    }
    if opened:
        definition["ingredients"] = [
            {
                "title": "input",
                "format": input_mime,
                "relationship": "parentOf",
                "instance_id": _INGREDIENT_ID,
            }
        ]
    return definition
