"""Flags that several commands share, and the request they make."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluxctx.commands.base import Session
from fluxctx.config import parse_duration
from fluxctx.domain import Size, Upload
from fluxctx.errors import InvalidRequest, OutputExists, QuestionNeedsTerminal, UsageError

if TYPE_CHECKING:
    from fluxctx.runtime import Runtime

MAX_PROMPT_BYTES = 32_000
MAX_UPLOAD_BYTES = 64 * 1024 * 1024
MAX_COUNT = 64

Prompt = Annotated[
    str | None, typer.Argument(help="What to make; `-` reads it from stdin.", show_default=False)
]
Model = Annotated[str | None, typer.Option("--model", "-m", help="A model's name.", show_default="starter")]
Negative = Annotated[str | None, typer.Option("--negative-prompt", help="What to keep out.")]
SizeText = Annotated[str | None, typer.Option("--size", help="Size in pixels.", metavar="WxH")]
Width = Annotated[int | None, typer.Option("--width", help="Width in pixels.")]
Height = Annotated[int | None, typer.Option("--height", help="Height in pixels.")]
Aspect = Annotated[str | None, typer.Option("--aspect", help="Aspect ratio.", metavar="W:H")]
Steps = Annotated[int | None, typer.Option("--steps", "--num-inference-steps", help="Denoising steps.")]
Guidance = Annotated[
    float | None,
    typer.Option("--guidance", "--guidance-scale", "--cfg-scale", help="How closely to follow the prompt."),
]
Strength = Annotated[
    float | None, typer.Option("--strength", help="0 to 1: how much of the image to redraw.")
]
Scheduler = Annotated[str | None, typer.Option("--scheduler", help="A scheduler of the model's family.")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="Seed; repeatable, one picture each.")]
Count = Annotated[int, typer.Option("--count", "-n", help="How many pictures.")]
Images = Annotated[list[str] | None, typer.Option("--image", "-i", help="A picture: file, item id or @last.")]
Mask = Annotated[str | None, typer.Option("--mask", help="A mask: transparent or white is redrawn.")]
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="Write a decrypted, marked copy; `-` is stdout.")
]
Retain = Annotated[str | None, typer.Option("--retain", help="Delete after this long: 12h, 7d, 4w.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A label; repeatable.", metavar="KEY=VALUE")]
Metadata = Annotated[
    str, typer.Option("--metadata", help="What a copy says: none, minimal or full (recipe).")
]
PreviewMode = Annotated[
    str, typer.Option("--preview", help="Show it here: auto, none, kitty, iterm2, sixel or blocks.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the copy's path.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, mps or xpu.")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="auto, float32 or bfloat16.")]
Timeout = Annotated[str | None, typer.Option("--timeout", help="Give up after this long.")]
Ids = Annotated[
    list[str] | None, typer.Argument(help="Item ids, prefixes, @last, @1, @2.", show_default=False)
]


def read_prompt(session: Session, prompt: str | None, prompt_file: str | None, edit: bool) -> str:
    """The prompt from wherever it was given; asks on a terminal, so that it need not stand in the shell's history."""
    given = [prompt is not None, prompt_file is not None, edit]
    if sum(given) > 1:
        raise UsageError(
            "the prompt is given twice", hint="use one of PROMPT, --prompt-file and --edit-prompt"
        )
    if prompt_file is not None:
        text = read_text_file(prompt_file)
    elif edit:
        text = edit_in_memory(session)
    elif prompt == "-":
        text = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1).decode("utf-8", errors="replace")
    elif prompt is not None:
        text = prompt
    elif session.may_ask:
        text = typer.prompt("prompt", err=True)
    else:
        raise QuestionNeedsTerminal(
            "a prompt is missing", hint="give it as PROMPT, with `-` on stdin or --prompt-file"
        )
    return clean_prompt(text)


def clean_prompt(text: str) -> str:
    """Strip the ends and refuse what no model can mean."""
    text = text.strip()
    if not text:
        raise InvalidRequest("the prompt is empty", hint='describe a picture: fluxctx generate "a red apple"')
    if len(text.encode("utf-8", errors="surrogatepass")) > MAX_PROMPT_BYTES:
        raise InvalidRequest(
            f"the prompt is longer than {MAX_PROMPT_BYTES} bytes",
            hint="models read a few hundred words at most",
        )
    if any((ord(c) < 32 and c not in "\t\n\r") or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise InvalidRequest(
            "the prompt holds control characters", hint="remove them; line breaks and tabs are fine"
        )
    return " ".join(text.split())


def read_text_file(path: str) -> str:
    """A text file of the user's; the error never repeats its name."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_PROMPT_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise UsageError("the prompt file cannot be read", hint="check --prompt-file") from error
    except UnicodeDecodeError as error:
        raise UsageError("the prompt file is not UTF-8 text", hint="save it as UTF-8") from error


def edit_in_memory(session: Session) -> str:
    """Open $EDITOR on a file in a tmpfs, removed afterwards; the text never reaches a disk of ours."""
    import subprocess

    from fluxctx.lifecycle import memory_file

    if not session.may_ask:
        raise QuestionNeedsTerminal("an editor needs a terminal", hint="use --prompt-file or `-`")
    editor = session.config.environment.get("EDITOR") or "vi"
    with memory_file(session.config.places.run, b"", suffix=".txt") as path:
        subprocess.run([*editor.split(), str(path)], check=False)
        return path.read_text(encoding="utf-8")


def read_size(size: str | None, width: int | None, height: int | None, aspect: str | None) -> Size | None:
    """One size out of four flags; --aspect scales the model's default and is resolved by the plan."""
    hint = "write --size 256x256, or --width and --height"
    if size is not None:
        sides = size.lower().split("x")
        if len(sides) != 2 or not all(side.isdigit() and len(side) <= 6 for side in sides):
            raise InvalidRequest("not a size", hint=hint)
        width, height = int(sides[0]), int(sides[1])
    if aspect is not None and width is None:
        parts = aspect.split(":")
        if len(parts) != 2 or not all(part.isdigit() and 0 < int(part) <= 100 for part in parts):
            raise InvalidRequest("not an aspect ratio", hint="write --aspect 16:9")
        ratio = int(parts[0]) / int(parts[1])
        area = 1024 * 1024
        width, height = (round((area * r) ** 0.5 / 16) * 16 for r in (ratio, 1 / ratio))
    if width is None and height is None:
        return None
    width, height = width or height, height or width
    try:
        return Size(width_px=width or 0, height_px=height or 0)
    except ValueError as error:
        raise InvalidRequest(str(error), hint=hint) from error


def read_seeds(seeds: list[int] | None, count: int) -> tuple[int, ...]:
    """One seed a picture: those given, then counting on from the last; random ones where none is given."""
    if not 1 <= count <= MAX_COUNT:
        raise InvalidRequest(
            f"--count must be between 1 and {MAX_COUNT}", hint="run the command again for more"
        )
    chosen = list(seeds or [secrets.randbelow(2**31)])
    if any(not 0 <= seed < 2**63 for seed in chosen):
        raise InvalidRequest(
            "a seed must be between 0 and 2^63 - 1", hint="leave --seed out for a random one"
        )
    while len(chosen) < count:
        chosen.append(chosen[-1] + 1)
    return tuple(chosen)


def read_tags(tags: list[str] | None) -> dict[str, str]:
    """`--tag k=v`, repeatable; a bare word is a tag without a value."""
    found: dict[str, str] = {}
    for tag in tags or []:
        key, _, value = tag.partition("=")
        if not key.strip() or len(tag) > 200 or len(found) >= 32:
            raise InvalidRequest(
                "not a tag", hint="write --tag key=value; at most 32, each up to 200 characters"
            )
        found[key.strip()] = value.strip()
    return found


def choice(given: str | None, session: Session, key: str) -> str | None:
    """A flag, else its setting; `auto` leaves it to the plan."""
    value = given or str(session.config.get(key))
    return None if value == "auto" else value


def read_retention(retain: str | None, session: Session) -> timedelta | None:
    """`--retain`, else the setting when somebody set it, else None: the default of 30 days within the plan."""
    if retain is not None:
        return parse_duration(retain)
    value = session.config.values["retention"]
    return None if value.origin == "default" else session.config.duration("retention")


def read_upload(role: str, reference: str, runtime: Runtime) -> Upload:
    """A file, an item id or `@last`, as bytes; nothing of its name goes on from here."""
    path = Path(reference)
    if not reference.startswith("@") and path.is_file():
        content, item_id = read_file_bytes(path), None
    elif looks_like_id(reference):
        item_id = runtime.vault().resolve(reference, now=runtime.now())
        content = runtime.vault().read(item_id, "original", now=runtime.now())
    else:
        raise InvalidRequest(
            f"the {role} is neither a file nor an item", hint="give a picture's path, an id or @last"
        )
    digest = hashlib.sha256(content).hexdigest()
    return Upload(role=role, content=content, sha256=digest, source_item=item_id)  # type: ignore[arg-type]


def looks_like_id(reference: str) -> bool:
    return reference.startswith("@") or (
        4 <= len(reference) <= 32 and all(c in "0123456789abcdef" for c in reference)
    )


def read_file_bytes(path: Path) -> bytes:
    """A regular file of at most 64 MiB."""
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidRequest("not a regular file", hint="give a picture's path")
            content = file.read(MAX_UPLOAD_BYTES + 1)
    except OSError as error:
        raise InvalidRequest("the file cannot be read", hint="check its path and mode") from error
    if len(content) > MAX_UPLOAD_BYTES:
        raise InvalidRequest("the file is larger than 64 MiB", hint="scale the picture down first")
    return content


def output_paths(output: str | None, count: int, *, force: bool) -> list[Path] | None:
    """Where the copies go: None for none or stdout; checked before anything is generated."""
    if output is None or output == "-":
        return None
    path = Path(output)
    if path.is_dir():
        paths = [path / f"{index:04d}.png" for index in range(count)]
    elif count == 1:
        paths = [path]
    else:
        paths = [path.with_name(f"{path.stem}-{index:04d}{path.suffix}") for index in range(count)]
    if not path.parent.is_dir():
        raise UsageError("the copy's directory does not exist", hint="make it first")
    if not force and any(target.exists() for target in paths):
        raise OutputExists("the copy's path exists already", hint="choose another --output or add --force")
    for target in paths:
        copy_format(target)
    return paths


FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def copy_format(path: Path) -> str:
    """The copy's format by its name's ending."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise InvalidRequest("unknown picture format", hint="end the path in .png, .jpg or .webp") from None
