"""The parent's side of the media room: bytes go in, bytes come out, nothing is parsed here.

Two confined children share the work.  The *reader* sees strangers' files; the *maker* sees our own pixels
only, and the bytes of a file only if this room has just encoded it.  A file that takes over its decoder
therefore gets at no finished picture, no mark and no classifier: it can lie about its own pixels and die.
Neither child holds a key or can reach a network or a file.

A MediaRoom serves one account; give each account its own where several share a process.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Protocol, Self

from fluxctx.confined.wire import Channel, Frame
from fluxctx.domain import Encoded, RawImage, Size, Upload
from fluxctx.errors import InvalidRequest, MediaFailed, MediaInvalid, WireError
from fluxctx.media.faults import FAULTS, MAX_FILE_BYTES
from fluxctx.media.marks import Marks

CHILD: Final = "fluxctx.media.child"
# 64 MP as RGBA four times over (file, canvas, layers, result), with the classifier's and watermark's weights.
CHILD_BYTES: Final = 3 * 1024**3
MIME: Final[dict[str, str]] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


class ConfinedChild(Protocol):
    """What this room needs of confined.spawn.Child."""

    pid: int
    channel: Channel

    def ready(self) -> object:
        """Wait until it is confined; raises ConfinementUnavailable."""

    def kill(self) -> None:
        """End it now."""

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs."""

    def close(self) -> None:
        """End it and close the channel."""


Spawn = Callable[[], ConfinedChild]


def confined_child() -> ConfinedChild:
    """Start one media child; it may read the interpreter's packages and nothing else."""
    from fluxctx.confined.spawn import Grants, spawn

    return spawn(CHILD, grants=Grants())


class MediaRoom:
    """Decodes, encodes, marks, compares and classifies pictures in confined children.

    Args:
        spawn: Starts one child and returns at once.
        timeout_s: How long a child may take for one request before it is killed.
    """

    def __init__(self, spawn: Spawn = confined_child, *, timeout_s: float = 60.0) -> None:
        self._reader = _Bench(spawn, timeout_s)
        self._maker = _Bench(spawn, timeout_s)
        self._made: deque[bytes] = deque(maxlen=256)  # digests of the latest originals that the maker encoded

    def start(self, *, uploads: bool = False) -> None:
        """Begin the child that encodes (and, with `uploads`, the one that decodes) without waiting for it."""
        self._maker.start(load=True)
        if uploads:
            self._reader.start()

    def decode(self, upload: Upload) -> RawImage:
        """Decode an uploaded picture to RGB, or a mask to one channel where 255 means "change this".

        Raises:
            MediaInvalid: it is no whole PNG, JPEG or WebP of bearable size; details["reason"] names why.
        """
        self._check_size(upload.content)
        with _as_media_invalid():
            return _image(self._reader.ask("decode", {"role": upload.role}, upload.content))

    def encode(self, image: RawImage, *, size: Size) -> Encoded:
        """Encode a result as PNG at `size` (enlarged where it is smaller) with a WebP thumbnail of <= 256 px.

        Raises:
            MediaFailed: the child died twice at these pixels.
        """
        head = {"image": _shape(image), "size": [size.width_px, size.height_px]}
        with _as_media_failed():
            answer = self._maker.ask("encode", head, image.pixels)
            cut = int(answer.head["original_bytes"])
            encoded = Encoded(
                mime=MIME["png"],
                width_px=int(answer.head["width_px"]),
                height_px=int(answer.head["height_px"]),
                original=answer.blob[:cut],
                thumbnail=answer.blob[cut:],
                pixels_sha256=str(answer.head["pixels_sha256"]),
            )
        self._made.append(hashlib.sha256(encoded.original).digest())
        return encoded

    def mark_copy(self, content: bytes, mime: str, *, fmt: str, marks: Marks, quality: int = 92) -> bytes:
        """Make the copy of a stored picture that leaves the vault, transcoded and marked.

        Args:
            content: The stored original.  If this room has not just made it, the reader decodes it first.
            mime: Its type; only pictures can be marked here.
            fmt: The copy's format: "png", "jpeg" or "webp".
            marks: What the copy says of itself.
            quality: 1 to 100, for JPEG and WebP.

        Raises:
            InvalidRequest: not a picture, a format or quality that does not exist.
            MediaInvalid: the stored bytes do not decode, or the recipe does not fit the format.
        """
        if mime not in MIME.values():
            raise InvalidRequest("only pictures can be copied in this form", hint="export the item as it is")
        if fmt not in MIME:
            raise InvalidRequest("this copy format is not written here", hint="choose png, jpeg or webp")
        if not 1 <= quality <= 100:
            raise InvalidRequest("quality must be between 1 and 100")
        head: dict[str, Any] = {"fmt": fmt, "quality": quality, "xmp": marks.xmp, "manifest": None}
        blob, head["image"], sign = content, None, None
        if hashlib.sha256(content).digest() not in self._made:
            self._check_size(content)
            with _as_media_invalid():
                image = _image(self._reader.ask("decode", {"role": "image"}, content))
            blob, head["image"] = image.pixels, _shape(image)
        if marks.credential is not None:
            head |= {"manifest": dict(marks.credential.manifest), "chain": marks.credential.chain.decode()}
            sign = marks.credential.sign
        with _as_media_failed():
            return self._maker.ask("mark", head, blob, sign=sign).blob

    def preview(self, image: RawImage, *, marks: Marks, longest_px: int = 512) -> bytes:
        """Encode a partial picture as a small JPEG with the XMP mark, for events and streams."""
        head = {"image": _shape(image), "longest_px": longest_px, "xmp": marks.xmp}
        with _as_media_failed():
            return self._maker.ask("preview", head, image.pixels).blob

    def inspect(self, content: bytes, *, watermark: bool = False, anchors: bytes = b"") -> dict[str, Any]:
        """Read format, mime, size and marks of anybody's file (media/inspect.py says what is in them).

        Args:
            content: The file.
            watermark: Also look for the invisible mark (most of a CPU second).
            anchors: Certificates to trust a credential's signer by, PEM.

        Raises:
            MediaInvalid: it is no whole picture.
        """
        self._check_size(content)
        head = {"watermark": watermark, "anchors": anchors.decode("ascii", "ignore")}
        with _as_media_invalid():
            return _inspection(self._reader.ask("inspect", head, content).head)

    def compare(self, first: bytes, second: bytes) -> dict[str, Any]:
        """Compare two files of the same size: psnr_db (None if identical), ssim, phash_distance, identical.

        Raises:
            MediaInvalid: either is no picture, or their sizes differ.
        """
        self._check_size(first)
        self._check_size(second)
        with _as_media_invalid():
            return self._reader.ask("compare", {"first_bytes": len(first)}, first + second).head

    def classify(self, image: RawImage) -> dict[str, Any]:
        """Score pixels by the image guard: {"sexual_explicit": 0 to 1, "model_sha256": hex}."""
        with _as_media_failed():
            return self._maker.ask("classify", {"image": _shape(image)}, image.pixels).head

    def shrink(self, picture: bytes | RawImage, *, longest_px: int) -> RawImage:
        """Return RGB pixels no longer than `longest_px` on a side, for a preview on a terminal."""
        if isinstance(picture, RawImage):
            head = {"image": _shape(picture), "longest_px": longest_px}
            with _as_media_failed():
                return _image(self._maker.ask("shrink-image", head, picture.pixels))
        with _as_media_invalid():
            return _image(self._reader.ask("shrink", {"longest_px": longest_px}, picture))

    def close(self) -> None:
        """End both children; doing it twice is harmless."""
        self._reader.close()
        self._maker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _check_size(content: bytes) -> None:
        if len(content) > MAX_FILE_BYTES:  # before it is copied to the child
            raise fault("too_large")


class _ChildGone(Exception):
    """The child died or hung; `reason` is a key of FAULTS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Bench:
    """One child that is started when needed and replaced when it dies; one request at a time."""

    def __init__(self, spawn: Spawn, timeout_s: float) -> None:
        self._spawn = spawn
        self._timeout_s = timeout_s
        self._child: ConfinedChild | None = None
        self._lock = threading.Lock()

    def start(self, *, load: bool = False) -> None:
        """Begin the child; with `load` it reads the guard's and the watermark's weights while nobody waits."""
        with self._lock:
            fresh = self._child is None
            child = self._living()
            if load and fresh:
                with suppress(
                    OSError, WireError
                ):  # a child that died at once is noticed by whoever asks first
                    child.channel.send("load", {}, b"")

    def ask(
        self, kind: str, head: Mapping[str, Any], blob: bytes, *, sign: Callable[[bytes], bytes] | None = None
    ) -> Frame:
        """Send one request and wait for its answer; raises _ChildGone, MediaInvalid.

        `sign` answers the child's one wish in between: a signature over a claim's bytes.
        """
        with self._lock:
            child = self._living()
            child.ready()
            late = threading.Event()
            timer = threading.Timer(self._timeout_s, _kill_late, (child, late))
            timer.daemon = True
            timer.start()
            try:
                child.channel.send(kind, dict(head), blob)
                answer = child.channel.recv()
                if sign is not None and answer.kind == "sign":
                    child.channel.send("signature", {}, sign(answer.blob))
                    answer = child.channel.recv()
            except (EOFError, OSError, WireError) as gone:
                self._discard()
                raise _ChildGone("too_slow" if late.is_set() else "child_died") from gone
            finally:
                timer.cancel()
        if answer.kind == "refused":
            raise fault(str(answer.head.get("reason")))
        return answer

    def close(self) -> None:
        with self._lock:
            self._discard()

    def _living(self) -> ConfinedChild:
        if self._child is not None and self._child.poll() is not None:
            self._discard()
        if self._child is None:
            self._child = self._spawn()
            bound_memory(self._child.pid)
        return self._child

    def _discard(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def _kill_late(child: ConfinedChild, late: threading.Event) -> None:
    late.set()
    child.kill()


def bound_memory(pid: int) -> None:
    """Limit the child's address space, where the kernel lets one process do that to another (Linux)."""
    if sys.platform == "linux":
        import resource

        try:
            resource.prlimit(pid, resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
        except OSError:
            pass  # gone already, or a container refuses the call; headers.py bounds the pictures anyway


def fault(reason: str) -> MediaInvalid:
    """Turn a child's reason into our own sentence; a reason we do not know is "damaged"."""
    message, hint = FAULTS.get(reason, FAULTS["damaged"])
    return MediaInvalid(message, hint=hint, details={"reason": reason if reason in FAULTS else "damaged"})


@contextmanager
def _as_media_invalid() -> Iterator[None]:
    """A stranger's file is to blame for whatever the reader does; its answers are not trusted either."""
    try:
        yield
    except _ChildGone as gone:
        raise fault(gone.reason) from None
    except (KeyError, ValueError, TypeError):
        raise fault("child_died") from None


@contextmanager
def _as_media_failed() -> Iterator[None]:
    """Our own pixels went in: a death here is ours."""
    try:
        yield
    except (_ChildGone, KeyError, ValueError, TypeError) as gone:
        late = isinstance(gone, _ChildGone) and gone.reason == "too_slow"
        raise MediaFailed(
            "the picture took too long to encode" if late else "the media process ended unexpectedly",
            hint="try again; if it stays, free some memory or report it",
        ) from None


def _inspection(head: dict[str, Any]) -> dict[str, Any]:
    """Check the shape of what the reader found; the words in it stay a stranger's."""
    marks = head["marks"]
    if not {"xmp", "xmp_damaged", "credential", "watermark"} <= set(marks):
        raise ValueError("marks are missing")
    if marks["credential"] is not None and not isinstance(marks["credential"]["state"], str):
        raise ValueError("not a credential")
    Size(width_px=head["width_px"], height_px=head["height_px"])
    if head["mime"] not in MIME.values() or MIME.get(head["format"]) != head["mime"]:
        raise ValueError("not a format")
    return head


def _shape(image: RawImage) -> list[int]:
    return [image.width_px, image.height_px, image.channels]


def _image(answer: Frame) -> RawImage:
    """Check the child's answer: RawImage refuses pixels that do not fill the picture."""
    head = answer.head
    if answer.kind != "image" or head["channels"] not in (1, 3, 4):
        raise ValueError("not an image")
    return RawImage(
        width_px=int(head["width_px"]),
        height_px=int(head["height_px"]),
        channels=head["channels"],
        pixels=answer.blob,
    )
