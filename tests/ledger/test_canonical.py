"""Canonical JSON: RFC 8785's own examples, and a round trip for everything else."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxctx.ledger import canonical

# RFC 8785 appendix B: IEEE 754 bits and their text
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_numbers_are_written_as_in_rfc_8785_appendix_b(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical.render(value) == text.encode()


def test_the_example_of_rfc_8785() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical.render(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_names_are_ordered_by_utf_16_units() -> None:
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    rendered = canonical.render(dict.fromkeys(names, 0)).decode()
    order = [
        rendered.index(name if name != "\r" else "\\r") for name in ["\r", "1", "\u0080", "\u00f6", "\u20ac"]
    ]
    assert order == sorted(order)
    assert rendered.index("\U0001f600") < rendered.index("\ufb33")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-canonical.LARGEST_INTEGER, canonical.LARGEST_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer())
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(JSON)
def test_what_is_written_is_read_back_on_one_line(value: Any) -> None:
    text = canonical.render(value)
    assert b"\n" not in text
    assert canonical.parse(text) == value


@pytest.mark.parametrize(
    "text",
    [b'{"a": 1}', b'{"b":1,"a":2}', b"1.0", b"1e3", b'"\\u0041"', b'{"a":1,"a":2}', b"[1]\n", b"NaN", b"-0"],
)
def test_any_other_spelling_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        canonical.parse(text)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53, -(2**53), "\ud800", {1: 2}, b"bytes", {"a": {1, 2}}]
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        canonical.render(value)


def test_times_are_utc_cut_to_milliseconds() -> None:
    east = datetime(2026, 11, 24, 14, 0, 0, 999999, tzinfo=timezone(timedelta(hours=2)))
    assert canonical.utc_text(east) == "2026-11-24T12:00:00.999Z"
    assert canonical.utc_time("2026-11-24T12:00:00.999Z") == datetime(
        2026, 11, 24, 12, 0, 0, 999000, tzinfo=UTC
    )
    with pytest.raises(ValueError, match="zone"):
        canonical.utc_text(datetime(2026, 11, 24))
    for other in ("2026-11-24T12:00:00Z", "2026-11-24T12:00:00.9Z", "2026-11-24T12:00:00.999000Z", "now"):
        with pytest.raises(ValueError):
            canonical.utc_time(other)
