"""Canonical JSON (spec 1): the only form in which anything is hashed or signed."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

LARGEST_INTEGER = 2**53 - 1


def render(value: Any) -> bytes:
    """Write `value` as RFC 8785 does.

    Raises:
        ValueError: NaN, infinity, an integer beyond 2^53 - 1, a lone surrogate, or a type that JSON lacks.
    """
    return _text(value).encode("utf-8")


def parse(text: bytes) -> Any:
    """Read canonical JSON; raises ValueError for anything that `render` would have written otherwise."""
    value = json.loads(text)
    if render(value) != text:
        raise ValueError("not canonical JSON")
    return value


def utc_text(at: datetime) -> str:
    """An aware time as `2026-11-24T03:00:00.000Z`, cut to milliseconds."""
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def utc_time(text: str) -> datetime:
    """The inverse of `utc_text`; raises ValueError for any other spelling."""
    at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    if utc_text(at) != text:
        raise ValueError("not a time of this format")
    return at


def encode64(data: bytes) -> str:
    """Base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode64(text: str) -> bytes:
    """The inverse of `encode64`; raises ValueError for any other spelling of the same bytes."""
    data = base64.b64decode(text, validate=True)
    if encode64(data) != text:
        raise ValueError("not canonical base64")
    return data


def _text(value: Any) -> str:
    if value is None or value is True or value is False or isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise ValueError("an integer beyond 2^53 - 1")
        return str(value)
    if isinstance(value, float):
        return _double(value)
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("an object member's name is not a string")
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{_text(name)}:{_text(value[name])}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(part) for part in value) + "]"
    raise ValueError(f"JSON has no {type(value).__name__}")


def _double(value: float) -> str:
    """ECMA-262 Number::toString (RFC 8785 section 3.2.2.3): Python's shortest digits, JavaScript's layout."""
    if not math.isfinite(value):
        raise ValueError("JSON has neither NaN nor infinity")
    if value == 0:
        return "0"
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)  # the decimal point stands after this many digits
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if digits[1:] else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"
