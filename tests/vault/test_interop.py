"""Blobs are Tink's: the official package opens ours, and we open what it wrote."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from fluxctx.vault.streaming import FIRST_PLAIN, PLAIN, read_sealed, write_sealed

SIZES = sorted(
    {0, 1, 15, 16, 17, 1000, 65_536}
    | {FIRST_PLAIN + step for step in (-17, -16, -1, 0, 1, 16, 17)}
    | {FIRST_PLAIN + PLAIN + step for step in (-17, -1, 0, 1, 17)}
    | {FIRST_PLAIN + 2 * PLAIN + step for step in (-1, 0, 1)}
    | {(1 << 20) + step for step in (-1, 0, 1)}
    | {3 << 20, 100_000}
)
KEY, CONTEXT = bytes(range(32)), b"fluxctx/v1/part\0 any context"


def official():  # type: ignore[no-untyped-def]
    """Tink's own streaming AEAD over our item key."""
    try:
        import tink
        from tink import secret_key_access, streaming_aead
        from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2
    except ImportError:
        pytest.skip("not run: the tink package is missing")
    streaming_aead.register()
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        version=0,
        key_value=KEY,
        params=aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
            ciphertext_segment_size=1 << 20, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
        ),
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add()
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.value = key.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    entry.status = tink_pb2.ENABLED
    entry.key_id = 1
    entry.output_prefix_type = tink_pb2.RAW
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


class Kept(io.BytesIO):
    """Tink closes what it wrote to; a test wants to look."""

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


@pytest.mark.parametrize("size", SIZES)
def test_tink_opens_ours_and_we_open_tinks(tmp_path: Path, size: int) -> None:
    primitive, content = official(), os.urandom(size)
    sealed = io.BytesIO()
    write_sealed(sealed, KEY, CONTEXT, content)
    with primitive.new_decrypting_stream(io.BytesIO(sealed.getvalue()), CONTEXT) as stream:
        assert stream.read() == content
    theirs = Kept()
    with primitive.new_encrypting_stream(theirs, CONTEXT) as stream:
        stream.write(content)
    path = tmp_path / "blob"
    path.write_bytes(theirs.kept)
    fd = os.open(path, os.O_RDONLY)
    assert read_sealed(fd, KEY, CONTEXT) == content
    os.close(fd)


def test_there_are_27_sizes_or_more() -> None:
    assert len(SIZES) >= 27
