"""What confinement and marks cost: `python benchmarks/media.py [rounds]`.

A and B run interleaved; medians; ratios are what to keep, the machine may be busy.  CPU time of the child is
read from /proc (Linux).
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fluxctx.domain import RawImage, Size, Upload
from fluxctx.media.client import MediaRoom
from fluxctx.media.marks import Credential, Marks
from fluxctx.provenance.authority import make_authority
from fluxctx.provenance.manifest import manifest
from fluxctx.provenance.xmp import packet


def cpu_s(media: MediaRoom) -> float:
    """User and system seconds of both children so far."""
    total = 0.0
    for bench in (media._reader, media._maker):
        if bench._child is not None:
            fields = Path(f"/proc/{bench._child.pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def row(name: str, *values: object) -> None:
    print(f"{name:<46}", *(f"{value:>12}" for value in values))


def ms(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.1f} ms"


def interleaved(name: str, rounds: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    a, b = [], []
    for _ in range(rounds):
        a.append(timed(ours))
        b.append(timed(theirs))
    row(name, ms(a), ms(b), f"{statistics.median(a) / statistics.median(b):.2f}x")


def cold(rounds: int) -> None:
    image = RawImage(width_px=64, height_px=64, channels=3, pixels=bytes(64 * 64 * 3))
    size = Size(width_px=64, height_px=64)
    first, cpu, guard = [], [], []
    for _ in range(rounds):
        with MediaRoom() as media:
            first.append(timed(lambda media=media: media.encode(image, size=size)))
            cpu.append(cpu_s(media))
            before = cpu_s(media)
            media.classify(image)
            guard.append(cpu_s(media) - before)
    row("cold: start of the child to the first picture", ms(first), f"cpu {ms(cpu)}")
    row("cold: image guard's first answer, added", f"cpu {ms(guard)}")


def main(rounds: int) -> None:
    cold(max(3, rounds // 2))
    from PIL import Image

    from tests.media.pictures import photo, raw

    picture = photo(1024, 1024)
    image, size = raw(picture), Size(width_px=1024, height_px=1024)

    def pillow() -> bytes:
        out = io.BytesIO()
        picture.save(out, "PNG")
        return out.getvalue()

    def bare() -> tuple[bytes, bytes, str]:
        """What the child does for `encode`, in this process."""
        from fluxctx.media.encode import encode

        stored = encode(image, size)
        return stored.original, stored.thumbnail, stored.pixels_sha256

    with MediaRoom() as media:
        media.start(uploads=True)
        encoded = media.encode(image, size=size)
        upload = Upload(role="image", content=encoded.original, sha256="")
        media.decode(upload)
        row("1024 x 1024, warm", "fluxctx", "plain Pillow", "ratio")
        interleaved("encode PNG + thumbnail + digest", rounds, lambda: media.encode(image, size=size), pillow)
        interleaved(
            "  of this, over the same work without a child",
            rounds,
            lambda: media.encode(image, size=size),
            bare,
        )
        interleaved(
            "decode PNG",
            rounds,
            lambda: media.decode(upload),
            lambda: Image.open(io.BytesIO(encoded.original)).load(),
        )
        row(
            "  bytes of the PNG",
            len(encoded.original),
            len(pillow()),
            f"{len(encoded.original) / len(pillow()):.2f}x",
        )
        marks(media, encoded.original, picture, rounds)
        guard(media, rounds)


def marks(media: MediaRoom, original: bytes, picture: Any, rounds: int) -> None:
    authority = make_authority(datetime.now(UTC))
    claim = manifest(origin="generated", tool="fluxctx", version="0")
    xmp = packet(origin="generated", tool="fluxctx 0")
    plain = Marks(xmp=xmp)
    signed = Marks(xmp=xmp, credential=Credential(manifest=claim, chain=authority.chain, sign=authority.sign))

    def copy(these: Marks, fmt: Any = "png") -> bytes:
        return media.mark_copy(original, "image/png", fmt=fmt, marks=these)

    copy(signed)
    before = cpu_s(media)
    whole = [timed(lambda: copy(signed)) for _ in range(rounds)]
    row("copy with all marks, PNG", ms(whole), f"cpu {(cpu_s(media) - before) / rounds * 1e3:.0f} ms")
    from fluxctx.media import credentials, watermark

    unsigned, chain = copy(plain), authority.chain.decode()
    spent = []
    for _ in range(5 * rounds):
        began = time.process_time()
        credentials.attach(unsigned, "image/png", claim, chain, authority.sign)
        spent.append(time.process_time() - began)
    row("  the credential's CPU time", ms(spent))
    spent = []
    for _ in range(max(3, rounds // 3)):
        began = time.process_time()
        watermark.embed(picture)
        spent.append(time.process_time() - began)
    row("  the watermark's CPU time", ms(spent))


def guard(media: MediaRoom, rounds: int) -> None:
    from tests.media.pictures import photo, raw

    for side in (64, 512, 1024):
        image = raw(photo(side, side))
        media.classify(image)
        before = cpu_s(media)
        for _ in range(4 * rounds):
            media.classify(image)
        row(f"image guard, {side} px", f"cpu {(cpu_s(media) - before) / rounds / 4 * 1e3:.1f} ms")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
