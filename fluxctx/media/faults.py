"""What can be wrong with a file: a closed set of reasons, each with the sentence a person reads.

The child names a reason by its key and nothing else, so neither a parser's message nor a word out of a
hostile file can reach a terminal, a log or an HTTP answer.
"""

from __future__ import annotations

from typing import Final

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MAX_PIXELS: Final = 64_000_000

_CONVERT = "save it as PNG, JPEG or WebP"
_WHOLE = "copy or download the file again"

# reason -> (message, hint)
FAULTS: Final[dict[str, tuple[str, str]]] = {
    "empty": ("the file is empty", _WHOLE),
    "too_large": ("the file is larger than 64 MiB", "save it smaller, for example as JPEG"),
    "too_many_pixels": ("the picture has more than 64 million pixels", "scale it down first"),
    "not_a_picture": ("the file is not a PNG, JPEG or WebP picture", _CONVERT),
    "unsupported": ("this picture format is not read here", _CONVERT),
    "animated": ("the picture is animated", "save the one frame you mean as PNG"),
    "truncated": ("the file ends before the picture does", _WHOLE),
    "damaged": ("the picture is damaged", _WHOLE),
    "out_of_memory": ("the picture needs more memory than decoding one may use", "scale it down first"),
    "xmp_too_long": ("the recipe does not fit into a JPEG", "choose PNG or WebP, or `--metadata minimal`"),
    "manifest_too_long": ("the picture's credential is too long to be read here", "use a C2PA tool"),
    "sizes_differ": ("the pictures differ in size", "compare pictures of the same width and height"),
    "child_died": ("the file could not be decoded safely", _CONVERT),
    "too_slow": ("the file took too long to decode", _CONVERT),
}


class BadPicture(Exception):
    """Raised inside the child; `reason` is a key of FAULTS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
