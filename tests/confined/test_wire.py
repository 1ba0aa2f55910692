"""Frames: what goes in comes out, and what is not a frame never costs memory or more than one error."""

import json
import os
import socket
import struct
import threading
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxctx.confined import wire
from fluxctx.confined.wire import MAGIC, MAX_BLOB_BYTES, MAX_HEAD_BYTES, PREFIX, Channel
from fluxctx.errors import EngineFailed, WireError

SECRET = "a red apple under a secret tree"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
heads = st.dictionaries(st.text(), json_values, max_size=5)
kinds = st.from_regex(r"[a-z0-9_-]{1,32}", fullmatch=True)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    one, other = Channel(ours.detach()), Channel(theirs.detach())
    yield one, other
    one.close()
    other.close()


def raw_ends() -> tuple[socket.socket, Channel]:
    ours, theirs = socket.socketpair()
    return ours, Channel(theirs.detach())


def received(data: bytes, **limits: int) -> wire.Frame:
    """What a channel makes of these bytes, followed by the peer's end."""
    ours, channel = raw_ends()
    sender = threading.Thread(target=lambda: (ours.sendall(data), ours.close()))
    channel.max_blob_bytes = limits.get("max_blob_bytes", MAX_BLOB_BYTES)
    sender.start()
    try:
        return channel.recv()
    finally:
        channel.close()
        sender.join()


def frame(kind: bytes = b"k", head: bytes = b"{}", blob: bytes = b"", **lengths: int) -> bytes:
    sizes = (lengths.get("kind", len(kind)), lengths.get("head", len(head)), lengths.get("blob", len(blob)))
    return PREFIX.pack(MAGIC, *sizes) + kind + head + blob


@settings(deadline=None)
@given(kind=kinds, head=heads, blob=st.binary(max_size=4096))
def test_a_frame_arrives_as_it_was_sent(kind, head, blob):
    ours, theirs = socket.socketpair()
    one, other = Channel(ours.detach()), Channel(theirs.detach())
    try:
        one.send(kind, head, blob)
        assert other.recv() == (kind, head, blob)
    finally:
        one.close()
        other.close()


@pytest.mark.parametrize("size", [0, 1, wire.CHUNK_BYTES, wire.CHUNK_BYTES + 1, 5_000_000])
def test_a_large_blob_crosses_in_pieces(ends, size):
    one, other = ends
    blob = os.urandom(size)
    sender = threading.Thread(target=one.send, args=("pixels", {"n": size}, memoryview(blob)))
    sender.start()
    assert other.recv() == ("pixels", {"n": size}, blob)
    sender.join()


def test_a_view_of_something_else_than_bytes_is_sent_as_its_bytes(ends):
    one, other = ends
    import array

    one.send("floats", {}, memoryview(array.array("f", [1.0, 2.0])))
    assert other.recv().blob == struct.pack("<2f", 1.0, 2.0)


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=200))
def test_noise_is_an_error_and_nothing_else(data):
    with pytest.raises((WireError, EOFError)):
        received(data)


@settings(deadline=None, max_examples=300)
@given(kind=kinds, head=heads, blob=st.binary(max_size=64), where=st.integers(0), flip=st.integers(1, 255))
def test_a_frame_with_one_changed_byte_is_another_frame_or_an_error(kind, head, blob, where, flip):
    data = bytearray(wire.encode_start(kind, head, len(blob), MAX_BLOB_BYTES) + blob)
    data[where % len(data)] ^= flip
    try:
        got = received(bytes(data))
    except (WireError, EOFError):
        return
    assert isinstance(got.head, dict)
    assert wire.KIND.fullmatch(got.kind.encode())


@settings(deadline=None)
@given(head=heads, blob=st.binary(max_size=64), cut=st.integers(0))
def test_a_frame_that_breaks_off_is_the_end_of_the_peer(head, blob, cut):
    data = wire.encode_start("kind", head, len(blob), MAX_BLOB_BYTES) + blob
    with pytest.raises(EOFError):
        received(data[: cut % len(data)])


@pytest.mark.parametrize(
    ("head_bytes", "blob_bytes"),
    [(MAX_HEAD_BYTES + 1, 0), (2**32 - 1, 0), (2, MAX_BLOB_BYTES + 1), (2, 2**63), (2, 2**64 - 1)],
)
def test_a_huge_length_is_refused_before_anything_is_allocated(head_bytes, blob_bytes):
    ours, channel = raw_ends()
    ours.sendall(PREFIX.pack(MAGIC, 1, head_bytes, blob_bytes))
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            channel.recv()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        channel.close()
        ours.close()
    assert peak < 1 << 20


def test_an_announced_blob_costs_memory_only_as_it_arrives():
    tracemalloc.start()
    try:
        with pytest.raises(EOFError):
            received(PREFIX.pack(MAGIC, 1, 2, MAX_BLOB_BYTES) + b"k{}" + b"x" * 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_each_channel_has_its_own_limit_for_blobs(ends):
    ours, theirs = socket.socketpair()
    small = Channel(ours.detach(), max_blob_bytes=10)
    with pytest.raises(WireError):
        small.send("k", {}, b"x" * 11)
    small.send("k", {}, b"x" * 10)
    small.close()
    theirs.close()
    with pytest.raises(WireError):
        received(frame(blob=b"x" * 11), max_blob_bytes=10)
    assert received(frame(blob=b"x" * 10), max_blob_bytes=10).blob == b"x" * 10


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[]",
        b"1",
        b"null",
        b'"x"',
        b"{",
        b"{}{}",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b"\xff{}",
        b'{"a":1,}',
    ],
)
def test_a_head_that_is_not_one_json_object_is_refused(head):
    with pytest.raises(WireError):
        received(frame(head=head))


def test_a_head_nested_beyond_reason_is_refused():
    with pytest.raises(WireError):
        received(frame(head=b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))


def test_a_number_with_too_many_digits_is_refused():
    with pytest.raises(WireError):
        received(frame(head=b'{"a":' + b"9" * 10_000 + b"}"))


@pytest.mark.parametrize("kind", [b"", b"UPPER", b"sp ace", b"\xc3\xa4", b"k\n", b"k" * 33])
def test_a_kind_outside_its_alphabet_is_refused_on_both_sides(kind):
    with pytest.raises(WireError):
        received(frame(kind=kind))
    ours, theirs = socket.socketpair()
    channel = Channel(ours.detach())
    with pytest.raises(WireError):
        channel.send(kind.decode("utf-8"), {})
    channel.close()
    theirs.close()


@pytest.mark.parametrize("head", [{"a": float("nan")}, {"a": object()}, {"a": {1, 2}}, {"a": b"bytes"}])
def test_a_head_that_json_cannot_say_is_refused_before_a_byte_goes_out(head):
    ours, theirs = socket.socketpair()
    channel = Channel(ours.detach())
    with pytest.raises(WireError):
        channel.send("k", head)
    channel.close()
    assert theirs.recv(1) == b""
    theirs.close()


def test_a_head_over_the_limit_is_refused_before_a_byte_goes_out():
    ours, theirs = socket.socketpair()
    channel = Channel(ours.detach())
    with pytest.raises(WireError):
        channel.send("k", {"a": "x" * MAX_HEAD_BYTES})
    channel.close()
    assert theirs.recv(1) == b""
    theirs.close()


def test_no_error_repeats_what_was_in_the_frame():
    bad = json.dumps({"prompt": SECRET}).encode() + b","
    with pytest.raises(WireError) as caught:
        received(frame(head=bad))
    import traceback

    assert SECRET not in "".join(traceback.format_exception(caught.value))
    ours, theirs = socket.socketpair()
    channel = Channel(ours.detach())
    with pytest.raises(WireError) as caught:
        channel.send("k", {"prompt": SECRET, "bad": float("inf")})
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    channel.close()
    theirs.close()


def test_sending_to_a_peer_that_is_gone_says_so():
    ours, channel = raw_ends()
    ours.close()
    with pytest.raises(EOFError):
        channel.send("k", {}, b"x" * (4 << 20))
    with pytest.raises(EOFError):
        channel.recv()
    channel.close()
    channel.close()


def test_a_peer_that_leaves_unread_bytes_behind_is_gone_too():
    ours, channel = raw_ends()
    channel.send("k", {}, b"unread")
    ours.close()  # with data unread this resets the connection
    with pytest.raises(EOFError):
        channel.recv()
    channel.close()


def test_a_wire_error_is_an_engine_failure_with_its_own_slug():
    assert issubclass(WireError, EngineFailed)
    assert WireError.slug == "wire_error"
