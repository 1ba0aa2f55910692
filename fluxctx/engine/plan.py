"""Request and model -> render job: every default filled in, every limit checked, nothing loaded."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from fluxctx.domain import (
    GenerationRequest,
    InstalledModel,
    JobId,
    RawImage,
    RenderJob,
    Size,
    Warned,
    Workflow,
)
from fluxctx.engine.capabilities import MANY_REFERENCES
from fluxctx.engine.catalog import Entry
from fluxctx.engine.words import load_words, read_prompt
from fluxctx.errors import InvalidRequest

MAX_PROMPT_CHARACTERS = 10_000
MAX_SEED = 2**63 - 1
MAX_PICTURES = 1000
MAX_REFERENCES = 16
MAX_GUIDANCE = 50.0
MAX_AREA_FACTOR = 16  # of the model's usual area: beyond it pictures repeat and memory explodes
DEFAULT_STRENGTH = {Workflow.IMAGE_TO_IMAGE: 0.6, Workflow.INPAINT: 1.0}
DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda", "mps", "xpu")


def plan_render(
    request: GenerationRequest, entry: Entry, job_id: JobId, images: Mapping[str, Sequence[RawImage]]
) -> RenderJob:
    """Resolve a request against one model.

    Raises InvalidRequest, with what the model can do in the hint.
    """
    model = entry.model
    check_workflow(request, model)
    check_text(request.prompt, what="prompt", may_be_empty=request.workflow is Workflow.IMAGE_TO_IMAGE)
    check_text(request.negative_prompt, what="negative prompt", may_be_empty=True)
    check_unsupported(request)
    pictures, mask = check_pictures(request, entry, images)
    steps = check_steps(request, model)
    return RenderJob(
        job_id=job_id,
        model=model.name,
        workflow=request.workflow,
        prompt=request.prompt.lower() if entry.lower_case else request.prompt,
        negative_prompt=request.negative_prompt.lower() if entry.lower_case else request.negative_prompt,
        render_size=render_size(request, model, pictures),
        steps=steps,
        guidance=check_guidance(request, entry),
        strength=check_strength(request, steps),
        seeds=check_seeds(request.seeds),
        images=pictures,
        mask=mask,
        device=check_choice(request.device or "cpu", DEVICES, "device"),
        dtype=check_choice(request.dtype or model.default_dtype, DTYPES, "dtype"),
        preview=True,
    )


def output_size(request: GenerationRequest, model: InstalledModel) -> Size:
    """Size of the stored picture; raises InvalidRequest where the model cannot do it."""
    wanted = request.size or model.default_size
    if model.native_sizes:
        if native_of(wanted, model) is None:
            raise impossible_size(wanted, model)
    else:
        check_free_size(wanted, model)
    return wanted


def render_size(request: GenerationRequest, model: InstalledModel, images: Sequence[RawImage]) -> Size:
    """What the model draws: a native size, the size asked for, or the first picture's proportions."""
    if request.size is None and images and not model.native_sizes:
        return like(images[0], model)
    wanted = output_size(request, model)
    return native_of(wanted, model) or wanted


def native_of(wanted: Size, model: InstalledModel) -> Size | None:
    """The largest native size of which `wanted` is a whole multiple that the model may be enlarged to."""
    fitting = [
        native
        for native in model.native_sizes
        for factor in range(1, model.enlarge_to + 1)
        if (native.width_px * factor, native.height_px * factor) == (wanted.width_px, wanted.height_px)
    ]
    return max(fitting, key=lambda size: size.width_px * size.height_px, default=None)


def like(image: RawImage, model: InstalledModel) -> Size:
    """A size with the picture's proportions and the model's usual area, in whole multiples."""
    area = model.default_size.width_px * model.default_size.height_px
    proportion = math.sqrt(image.width_px / image.height_px)
    sides = (math.sqrt(area) * proportion, math.sqrt(area) / proportion)
    width_px, height_px = (max(1, round(side / model.size_multiple)) * model.size_multiple for side in sides)
    return Size(width_px=min(width_px, 16384), height_px=min(height_px, 16384))


def warnings(request: GenerationRequest, entry: Entry, job: RenderJob, output: Size) -> list[Warned]:
    """What the caller should know before they wait; never a word of the prompt."""
    found: list[Warned] = []
    if output != job.render_size:
        message = f"{entry.model.name} draws {job.render_size}; the picture is enlarged to {output}"
        found.append(Warned(code="enlarged", message=message))
    if any(is_padded(image, job.render_size) for image in job.images):
        message = f"a picture of other proportions was padded with white to {job.render_size}"
        found.append(Warned(code="padded", message=message))
    if entry.word_list and entry.model.max_prompt_tokens:
        known = load_words(Path(entry.model.directory) / entry.word_list)
        reading = read_prompt(request.prompt, known, max_tokens=entry.model.max_prompt_tokens)
        if reading.unknown:
            message = f"{entry.model.name} does not know {len(reading.unknown)} of {reading.words} words: "
            found.append(Warned(code="unknown_words", message=message + ordinals(reading.unknown)))
        if reading.cut:
            message = (
                f"{entry.model.name} reads {entry.model.max_prompt_tokens} tokens: the prompt is cut at "
            )
            found.append(Warned(code="prompt_cut", message=message + ordinals(reading.cut[:1])))
    return found


def is_padded(image: RawImage, size: Size) -> bool:
    """Whether the picture's proportions differ from what is drawn."""
    return image.width_px * size.height_px != image.height_px * size.width_px


def ordinals(positions: Sequence[int]) -> str:
    """Name at most eight positions: word 2, word 5."""
    shown = ", ".join(f"word {position}" for position in positions[:8])
    return shown + (", ..." if len(positions) > 8 else "")


# --- checks -------------------------------------------------------------------------------------------


def check_workflow(request: GenerationRequest, model: InstalledModel) -> None:
    """Raises InvalidRequest for what the model cannot do."""
    if request.workflow not in model.workflows:
        raise InvalidRequest(
            f"{model.name} does not do {request.workflow}",
            hint=f"it does {', '.join(model.workflows)}; `fluxctx models list` shows what the others do",
        )


def check_text(text: str, *, what: str, may_be_empty: bool) -> None:
    """Raises InvalidRequest for an empty, endless or unprintable text, without repeating it."""
    if not text.strip() and not may_be_empty:
        raise InvalidRequest(f"the {what} is empty", hint="say what the picture shows")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InvalidRequest(
            f"the {what} has {len(text)} characters, and the limit is {MAX_PROMPT_CHARACTERS}",
            hint="models read a few hundred words at most",
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\r\t" for c in text):
        raise InvalidRequest(f"the {what} holds control characters", hint="remove them")


def check_unsupported(request: GenerationRequest) -> None:
    """What the request can say and this engine does not do yet is refused, never ignored."""
    asked = {
        "a scheduler": request.scheduler is not None,
        "LoRA files": bool(request.loras),
        "frames": request.frames is not None or request.fps is not None,
    }
    for what, wanted in asked.items():
        if wanted:
            raise InvalidRequest(f"{what} cannot be chosen for this model", hint="leave it out")


def check_pictures(
    request: GenerationRequest, entry: Entry, images: Mapping[str, Sequence[RawImage]]
) -> tuple[tuple[RawImage, ...], RawImage | None]:
    """The references and the mask, as many as the workflow takes; raises InvalidRequest."""
    pictures, masks = tuple(images.get("image", ())), tuple(images.get("mask", ()))
    workflow = request.workflow
    if images.get("video"):
        raise InvalidRequest(f"{workflow} takes no video")
    if workflow is Workflow.TEXT_TO_IMAGE and (pictures or masks):
        raise InvalidRequest("text-to-image takes no picture", hint="`fluxctx edit` does")
    if workflow is not Workflow.TEXT_TO_IMAGE and not pictures:
        raise InvalidRequest(f"{workflow} needs a picture", hint="--image PATH")
    several = workflow is Workflow.EDIT and entry.pipelines[workflow] in MANY_REFERENCES
    if len(pictures) > (MAX_REFERENCES if several else 1):
        limit = f"at most {MAX_REFERENCES} pictures" if several else "one picture"
        raise InvalidRequest(f"{entry.model.name} takes {limit} for {workflow}")
    if (workflow is Workflow.INPAINT) != (len(masks) == 1):
        raise InvalidRequest("inpainting takes one mask, and nothing else does", hint="--mask PATH")
    for mask in masks:
        if (mask.width_px, mask.height_px) != (pictures[0].width_px, pictures[0].height_px):
            raise InvalidRequest(
                "the mask and the picture differ in size", hint="make the mask as large as the picture"
            )
    return pictures, masks[0] if masks else None


def check_steps(request: GenerationRequest, model: InstalledModel) -> int:
    """Raises InvalidRequest outside 1 to the model's maximum."""
    steps = model.default_steps if request.steps is None else request.steps
    if not 1 <= steps <= model.max_steps:
        raise InvalidRequest(
            f"steps must be between 1 and {model.max_steps}", hint=f"the default is {model.default_steps}"
        )
    return steps


def check_guidance(request: GenerationRequest, entry: Entry) -> float:
    """Raises InvalidRequest for a scale that is no number, absurd, or that the model does not have."""
    if request.guidance is None:
        return entry.model.default_guidance
    if entry.guidance == "none":
        raise InvalidRequest(f"{entry.model.name} takes no guidance", hint="leave --guidance out")
    if not 0.0 <= request.guidance <= MAX_GUIDANCE:  # false for NaN
        raise InvalidRequest(f"guidance must be between 0 and {MAX_GUIDANCE:.0f}")
    return request.guidance


def check_strength(request: GenerationRequest, steps: int) -> float | None:
    """How much of the picture is redrawn; raises InvalidRequest where it would mean no step at all."""
    if request.workflow not in DEFAULT_STRENGTH:
        if request.strength is not None:
            raise InvalidRequest(f"{request.workflow} takes no strength", hint="leave --strength out")
        return None
    strength = DEFAULT_STRENGTH[request.workflow] if request.strength is None else request.strength
    if not 0.0 < strength <= 1.0:
        raise InvalidRequest("strength must be above 0 and at most 1")
    if int(steps * strength) < 1:
        raise InvalidRequest("strength times steps must be at least 1", hint="raise --strength or --steps")
    return strength


def check_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Raises InvalidRequest for no seed, too many, or one that is negative or too large."""
    if not 1 <= len(seeds) <= MAX_PICTURES:
        raise InvalidRequest(f"between 1 and {MAX_PICTURES} pictures can be made at once")
    if any(not 0 <= seed <= MAX_SEED for seed in seeds):
        raise InvalidRequest("a seed must be between 0 and 2^63 - 1")
    return seeds


def check_choice(value: str, choices: Sequence[str], what: str) -> str:
    """Raises InvalidRequest for anything not listed."""
    if value not in choices:
        raise InvalidRequest(f"there is no such {what}", hint=f"one of {', '.join(choices)}")
    return value


def check_free_size(wanted: Size, model: InstalledModel) -> None:
    """Raises InvalidRequest for a side that is no whole multiple, or far too many pixels."""
    multiple = model.size_multiple
    if wanted.width_px % multiple or wanted.height_px % multiple:
        near = Size(width_px=_near(wanted.width_px, multiple), height_px=_near(wanted.height_px, multiple))
        raise InvalidRequest(
            f"{model.name} draws sides of whole multiples of {multiple} pixels", hint=f"--size {near}"
        )
    if (
        wanted.width_px * wanted.height_px
        > MAX_AREA_FACTOR * model.default_size.width_px * model.default_size.height_px
    ):
        raise InvalidRequest(
            f"{model.name} was made for about {model.default_size}", hint="choose a smaller --size"
        )


def impossible_size(wanted: Size, model: InstalledModel) -> InvalidRequest:
    """Say which sizes there are."""
    sizes = [
        Size(width_px=native.width_px * factor, height_px=native.height_px * factor)
        for native in model.native_sizes
        for factor in range(1, model.enlarge_to + 1)
    ]
    return InvalidRequest(
        f"{model.name} cannot make a picture of {wanted}", hint="its sizes are " + ", ".join(map(str, sizes))
    )


def _near(side_px: int, multiple: int) -> int:
    return max(multiple, round(side_px / multiple) * multiple)
