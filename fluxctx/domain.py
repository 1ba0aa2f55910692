"""The nouns that every room shares: frozen, validated, free of behaviour and of imports.

Times are aware UTC datetimes.  Ids are lower-case hex.  Pixels are 8-bit, row-major, channels last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, NewType

AccountId = NewType("AccountId", str)  # 32 hex digits
VaultId = NewType("VaultId", str)  # 32 hex digits
ItemId = NewType("ItemId", str)  # 32 hex digits
JobId = NewType("JobId", str)  # "job_" and 16 hex digits

DEFAULT_RETENTION = timedelta(days=30)


def utc(moment: datetime | None) -> str | None:
    """An ISO time with a Z, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


class Workflow(StrEnum):
    """What is made from what; plans and capabilities speak of these."""

    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_IMAGE = "image-to-image"
    INPAINT = "inpaint"
    EDIT = "edit"
    UPSCALE = "upscale"
    TEXT_TO_VIDEO = "text-to-video"
    IMAGE_TO_VIDEO = "image-to-video"
    VIDEO_TO_VIDEO = "video-to-video"


class ItemKind(StrEnum):
    """What an item is to its owner."""

    IMAGE = "image"
    VIDEO = "video"
    UPLOAD = "upload"


class Action(StrEnum):
    """A verdict, mildest first."""

    ALLOW = "allow"
    LOG = "log"
    REVIEW = "review"
    BLOCK = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A picture's size in pixels."""

    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        if not (1 <= self.width_px <= 16384 and 1 <= self.height_px <= 16384):
            raise ValueError("a side must be between 1 and 16384 pixels")

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawImage:
    """Decoded pixels: uint8, row-major, 1 (grey), 3 (RGB) or 4 (RGBA) channels last."""

    width_px: int
    height_px: int
    channels: Literal[1, 3, 4]
    pixels: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.pixels) != self.width_px * self.height_px * self.channels:
            raise ValueError("pixels do not fill the picture")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file the user gave: its encoded bytes (never its name) and what it is for."""

    role: Literal["image", "mask", "video"]
    content: bytes = field(repr=False)
    sha256: str
    source_item: ItemId | None = None  # set when it came out of the vault by id


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraRef:
    """A LoRA file to apply, by path, with its strength."""

    path: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One request, the same from the command line, a batch line, HTTP and the page.

    None means "the model's default"; `seeds` has one entry a picture and is filled in by runtime.
    """

    workflow: Workflow
    prompt: str = field(repr=False)
    negative_prompt: str = field(default="", repr=False)
    model: str = "starter"
    size: Size | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    scheduler: str | None = None
    seeds: tuple[int, ...] = (0,)
    uploads: tuple[Upload, ...] = ()
    loras: tuple[LoraRef, ...] = ()
    frames: int | None = None
    fps: int | None = None
    retain: timedelta | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    ephemeral: bool = False
    dtype: str | None = None
    device: str | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderJob:
    """What the engine gets: everything resolved, nothing left to choose, no path of the user's, no key."""

    job_id: JobId
    model: str  # catalog name
    workflow: Workflow
    prompt: str = field(repr=False)
    negative_prompt: str = field(default="", repr=False)
    render_size: Size  # what the model draws; the output may be an enlargement
    steps: int
    guidance: float
    strength: float | None = None
    scheduler: str | None = None
    seeds: tuple[int, ...]
    images: tuple[RawImage, ...] = ()
    mask: RawImage | None = None
    loras: tuple[LoraRef, ...] = ()
    frames: int | None = None
    fps: int | None = None
    device: str = "cpu"
    dtype: str = "float32"
    preview: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One result of the engine: raw pixels and the runtime facts that decide its bytes."""

    index: int
    seed: int
    image: RawImage
    runtime: Mapping[str, Any]  # device, dtype, threads, torch, diffusers, weights_sha256 before and after...


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A picture ready to be sealed."""

    mime: str
    width_px: int
    height_px: int
    original: bytes = field(repr=False)
    thumbnail: bytes = field(repr=False)
    pixels_sha256: str  # of the decoded pixels as stored, so that a check survives metadata


# --- events: what a caller sees while a request runs (interface.md, JSON) -----------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A new phase began."""

    name: Literal["load", "encode", "denoise", "decode", "policy", "seal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One denoising step is done."""

    index: int
    step: int
    steps: int
    it_per_s: float
    eta_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A partial picture, already past the policy on pixels."""

    index: int
    partial_image_index: int
    image: RawImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something the caller should know that does not stop the request."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One finished picture; `id` and `expires_at` are None for an ephemeral one."""

    index: int
    id: ItemId | None
    mime: str
    width_px: int
    height_px: int
    seed: int
    sha256: str  # of the encoded bytes as stored
    expires_at: datetime | None
    content: bytes = field(repr=False)  # the encoded bytes as stored; a copy is made from them


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRefused:
    """One of several outputs was refused by the policy on pixels; it was neither shown nor stored."""

    index: int
    rule: str
    category: str


Event = Phase | Progress | Preview | Warned | Output | OutputRefused


# --- policy ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason: span is [start, end) in the ORIGINAL text of `field`, or None for pixels."""

    category: str
    rule: str
    score: float
    locked: bool
    field: str = "prompt"
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What policy says of one request or picture."""

    action: Action
    findings: tuple[Finding, ...] = ()
    policy_id: str
    policy_revision: int


# --- the vault ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """What is to be sealed: parts by name, and metadata that is sealed under the item's own key.

    `parts` always has "original"; pictures also have "thumbnail".
    `metadata` is JSON-ready: recipe, tags, uploads (item ids), prompt, lifecycle facts.
    """

    kind: ItemKind
    mime: str
    expires_at: datetime
    parts: Mapping[str, bytes] = field(repr=False)
    metadata: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A row of the index: what may be known of an item without its own key."""

    id: ItemId
    kind: ItemKind
    created_at: datetime
    expires_at: datetime
    size_bytes: int  # of the original, before sealing
    mime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """An item that is gone for good: id, when and why ("expired", "purged", "orphan", "damaged")."""

    id: ItemId | None
    at: datetime
    reason: str
    freed_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What one sweep did; `closed` counts expired items kept shut until a second sweep agrees on the clock."""

    deaths: tuple[Death, ...] = ()
    freed_bytes: int = 0
    closed: int = 0
    busy: int = 0
    damaged: int = 0
    unsettled: tuple[int, ...] = ()  # cells whose put has not finished, for a settlement


# --- accounts and models -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One owner of one vault on this machine."""

    id: AccountId
    name: str
    vault_id: VaultId
    plan: str  # "free" | "pro" | "ultra"
    role: Literal["operator", "user"]
    status: Literal["active", "restricted", "suspended"]
    status_reason: str = ""
    terms_version: str | None = None  # the version this account accepted
    terms_accepted_at: datetime | None = None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledModel:
    """A model of the catalog with its defaults; everything the request does not say comes from here."""

    name: str
    directory: str
    pipeline: str  # model_index.json's _class_name
    workflows: tuple[Workflow, ...]
    licence: str
    sha256: str  # of the sorted "<sha256>  <path>" list of its files
    size_bytes: int
    requires_filter: bool
    native_sizes: tuple[Size, ...]  # empty: any multiple of `size_multiple`
    size_multiple: int
    default_size: Size  # of the output
    default_steps: int
    max_steps: int
    default_guidance: float
    default_dtype: str = "float32"
    max_prompt_tokens: int | None = None
    enlarge_to: int = 1  # the output may be an integer enlargement of a native size, up to this factor
    embedded: bool = False
