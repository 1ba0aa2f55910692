"""The packet: three statements in every copy, nothing personal unless the owner asks for it."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxctx.media.client import MediaRoom
from fluxctx.media.marks import Marks
from fluxctx.provenance.verify import interpret, read_assertions
from fluxctx.provenance.xmp import Metadata, Origin, packet
from tests.media.pictures import saved, scene

RECIPE = {
    "prompt": "a red apple & <b>“pear”</b> {x}\n秘密",
    "params": {"seed": 4242},
    "account": "alice",
    "host": "box.local",
}
SECRETS = ("red apple", "4242", "alice", "box.local", "秘密", "pear")
ORIGINS: tuple[Origin, ...] = ("generated", "edited")
LEVELS: tuple[Metadata, ...] = ("none", "minimal", "full")


def flat(text: str) -> dict[str, str]:
    description = ET.fromstring(text).find(".//{*}Description")
    assert description is not None
    return {child.tag.split("}")[1]: child.text or "" for child in description}


@pytest.mark.parametrize(("origin", "metadata"), list(itertools.product(ORIGINS, LEVELS)))
def test_every_packet_says_ai_made_and_not_for_training(origin: Origin, metadata: Metadata) -> None:
    said = flat(packet(origin=origin, tool="fluxctx 1", metadata=metadata, recipe=RECIPE))
    kind = "trainedAlgorithmicMedia" if origin == "generated" else "compositeWithTrainedAlgorithmicMedia"

    assert said["DigitalSourceType"] == f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"
    assert said["DataMining"] == "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-AIMLTRAINING"
    assert said["reservation"] == "1"


@pytest.mark.parametrize("metadata", ["none", "minimal"])
def test_none_and_minimal_hold_nothing_of_the_recipe(metadata: Metadata) -> None:
    text = packet(origin="generated", tool="fluxctx 1", metadata=metadata, recipe=RECIPE)
    assert not [secret for secret in SECRETS if secret in text]
    assert ("fluxctx 1" in text) is (metadata == "minimal")


def test_full_embeds_the_recipe_whole() -> None:
    text = packet(origin="generated", tool="fluxctx 1", metadata="full", recipe=RECIPE)
    assert json.loads(flat(text)["Recipe"]) == RECIPE


def test_full_without_a_recipe_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="recipe"):
        packet(origin="generated", tool="t", metadata="full")


def test_the_same_arguments_give_the_same_text_whatever_the_order_of_the_recipe() -> None:
    other_way = dict(reversed(RECIPE.items()))
    one, two = (packet(origin="generated", tool="t", metadata="full", recipe=r) for r in (RECIPE, other_way))
    assert one == two


@given(prompt=st.text(st.characters(exclude_categories=())), tool=st.text(st.characters(codec="utf-8")))
def test_any_prompt_reads_back_and_none_escapes_its_element(prompt: str, tool: str) -> None:
    text = packet(origin="generated", tool=tool, metadata="full", recipe={"prompt": prompt})
    said = flat(text.encode().decode())
    assert json.loads(said["Recipe"]) == {"prompt": prompt}
    assert set(said) == {"DigitalSourceType", "DataMining", "reservation", "CreatorTool", "Recipe"}


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("origin", ORIGINS)
def test_what_was_written_into_a_copy_is_read_back(room: MediaRoom, fmt: Any, origin: Origin) -> None:
    marks = Marks(xmp=packet(origin=origin, tool="fluxctx 1", metadata="full", recipe=RECIPE))
    copy = room.mark_copy(saved(scene()), "image/png", fmt=fmt, marks=marks)
    said = read_assertions(copy, room)

    assert (said.format, said.width_px, said.height_px) == (fmt, 96, 64)
    assert said.ai_generated is True
    assert said.edited_from_a_picture is (origin == "edited")
    assert said.training_allowed is False
    assert said.mining_reserved is True
    assert said.tool == "fluxctx 1"
    assert json.loads(said.recipe or "") == RECIPE
    assert "apple" not in repr(said)
    assert "recipe" not in said.as_dict()


def test_a_file_that_says_nothing_is_reported_as_saying_nothing(room: MediaRoom) -> None:
    said = read_assertions(saved(scene()), room)
    assert said.ai_generated is None
    assert said.training_allowed is None
    assert said.mining_reserved is None


@pytest.mark.parametrize("metadata", ["none", "minimal"])
@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp"])
def test_no_byte_of_a_plain_copy_names_prompt_seed_account_or_host(
    room: MediaRoom, fmt: Any, metadata: Metadata
) -> None:
    marks = Marks(xmp=packet(origin="generated", tool="fluxctx 1", metadata=metadata, recipe=RECIPE))
    copy = room.mark_copy(saved(scene()), "image/png", fmt=fmt, marks=marks)
    for secret in SECRETS:
        assert secret.encode() not in copy
        assert secret.encode("utf-16-le") not in copy


def test_source_types_of_cameras_are_not_called_ai() -> None:
    camera = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    marks = {"xmp": {name: camera}, "xmp_damaged": False, "credential": None, "watermark": None}
    facts = {"format": "jpeg", "width_px": 1, "height_px": 1, "marks": marks}
    assert interpret(facts).ai_generated is False


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp"])
def test_exiftool_reads_the_same_marks(room: MediaRoom, fmt: Any, tmp_path: Path) -> None:
    exiftool = shutil.which("exiftool")
    if exiftool is None:
        pytest.skip("not run: exiftool is missing")
    marks = Marks(xmp=packet(origin="edited", tool="fluxctx 1", metadata="full", recipe={"seed": 7}))
    path = tmp_path / f"copy.{fmt}"
    path.write_bytes(room.mark_copy(saved(scene()), "image/png", fmt=fmt, marks=marks))
    done = subprocess.run([exiftool, "-j", "-n", "-G1", path], capture_output=True, check=True)
    (said,) = json.loads(done.stdout)

    base = "http://cv.iptc.org/newscodes/digitalsourcetype"
    assert said["XMP-iptcExt:DigitalSourceType"] == f"{base}/compositeWithTrainedAlgorithmicMedia"
    assert said["XMP-plus:DataMining"] == "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-AIMLTRAINING"
    assert str(said["XMP-tdm:Reservation"]) == "1"
    assert said["XMP-xmp:CreatorTool"] == "fluxctx 1"
    assert json.loads(said["XMP-fluxctx:Recipe"]) == {"seed": 7}
    assert not [name for name in said if "Warning" in name or "Error" in name]
