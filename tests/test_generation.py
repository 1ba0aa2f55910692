"""The flow, told by small honest fakes: what is refused reaches nothing, what is made is kept whole."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from fluxctx.domain import (
    GenerationRequest,
    ItemKind,
    Output,
    OutputRefused,
    Preview,
    RawImage,
    Upload,
    Workflow,
)
from fluxctx.errors import EngineFailed, PolicyRefused, TermsNotAccepted
from fluxctx.generation import generate
from tests.fakes import BLACK, NOON, RED, FakeAccounts, FakeEngine, Stage


def request(prompt: str = "a red apple", **changes: Any) -> GenerationRequest:
    return GenerationRequest(
        workflow=Workflow.TEXT_TO_IMAGE, prompt=prompt, seeds=changes.pop("seeds", (7,)), **changes
    )


def upload(content: bytes = b"picture") -> Upload:
    return Upload(role="image", content=content, sha256=hashlib.sha256(content).hexdigest())


def test_a_refused_prompt_never_reaches_the_engine_or_the_vault() -> None:
    stage = Stage()
    with pytest.raises(PolicyRefused, match="rule-a") as refusal:
        generate(request("something forbidden"), stage.parts(), stage.seen.append)

    assert refusal.value.details == {
        "rule": "rule-a",
        "category": "illegal_violence",
        "stage": "input",
        "action": "block",
    }
    assert stage.engine.jobs == []
    assert stage.vault.items == {}
    assert stage.ledger.events == ["policy"]
    assert "forbidden" not in json.dumps(stage.ledger.entries, default=str)


@pytest.mark.parametrize("field", ["negative_prompt", "tags"])
def test_every_text_of_a_request_is_judged(field: str) -> None:
    stage = Stage()
    value: Any = {"mood": "forbidden"} if field == "tags" else "forbidden"
    with pytest.raises(PolicyRefused):
        generate(request(**{field: value}), stage.parts(), stage.seen.append)
    assert stage.engine.jobs == []


def test_a_refused_upload_is_neither_sealed_nor_drawn_from() -> None:
    stage = Stage()
    with pytest.raises(PolicyRefused):
        generate(request(uploads=(upload(b"black"),)), stage.parts(), stage.seen.append)
    assert stage.vault.items == {}
    assert stage.engine.jobs == []


def test_what_has_expired_goes_before_anything_is_made() -> None:
    stage = Stage()
    generate(request(), stage.parts(), stage.seen.append)
    assert stage.sweeps == 1


def test_unaccepted_terms_stop_a_request_before_its_prompt_is_read() -> None:
    stage = Stage(accounts=FakeAccounts(terms_accepted=False))
    with pytest.raises(TermsNotAccepted):
        generate(request("forbidden"), stage.parts(), stage.seen.append)
    assert stage.ledger.events == []


def test_a_picture_is_sealed_with_thumbnail_recipe_and_end() -> None:
    stage = Stage()
    (output,) = generate(request(tags={"set": "fruit"}), stage.parts(), stage.seen.append)

    (item,) = stage.vault.items.values()
    assert item.kind is ItemKind.IMAGE
    assert set(item.parts) == {"original", "thumbnail"}
    assert item.expires_at == NOON + timedelta(days=30)
    assert item.metadata["recipe"]["prompt"] == "a red apple"
    assert item.metadata["recipe"]["params"]["seed"] == 7
    assert item.metadata["tags"] == {"set": "fruit"}
    assert output.id in stage.vault.items
    assert stage.ledger.events == ["generated"]
    assert "apple" not in json.dumps(stage.ledger.entries, default=str)


def test_the_caller_sees_the_output_only_after_it_was_sealed() -> None:
    stage = Stage()

    def listen(event: Any) -> None:
        if isinstance(event, Output):
            assert event.id in stage.vault.items

    assert generate(request(), stage.parts(), listen)


def test_an_ephemeral_request_stores_nothing() -> None:
    stage = Stage()
    (output,) = generate(
        request(ephemeral=True, uploads=(upload(),)), stage.parts(ephemeral=True), stage.seen.append
    )
    assert output.id is None
    assert output.expires_at is None
    assert stage.vault.items == {}
    assert stage.ledger.events == ["generated-ephemeral"]


def test_a_refused_result_is_neither_shown_nor_stored_and_the_others_are_kept() -> None:
    stage = Stage(engine=FakeEngine(results=(RED, BLACK)))
    outputs = generate(request(seeds=(1, 2)), stage.parts(), stage.seen.append)

    assert [output.index for output in outputs] == [0]
    assert [event.index for event in stage.seen if isinstance(event, OutputRefused)] == [1]
    assert len(stage.vault.items) == 1


def test_when_every_result_is_refused_the_request_is() -> None:
    stage = Stage(engine=FakeEngine(results=(BLACK,)))
    with pytest.raises(PolicyRefused):
        generate(request(uploads=(upload(),)), stage.parts(), stage.seen.append)
    assert stage.vault.items == {}, "the upload goes with the output that never was"


def test_a_preview_that_policy_refuses_is_held_back() -> None:
    stage = Stage(engine=FakeEngine(previews=(BLACK, RED)))
    generate(request(), stage.parts(), stage.seen.append)
    shown = [event.image for event in stage.seen if isinstance(event, Preview)]
    assert shown == [RED]


def test_uploads_are_sealed_before_the_engine_sees_them_and_die_with_their_output() -> None:
    stage = Stage()
    (output,) = generate(request(uploads=(upload(),)), stage.parts(), stage.seen.append)

    kinds = [item.kind for item in stage.vault.items.values()]
    assert kinds == [ItemKind.UPLOAD, ItemKind.IMAGE]
    sealed, image = stage.vault.items.values()
    assert sealed.expires_at == image.expires_at
    assert image.metadata["recipe"]["uploads"] == [next(iter(stage.vault.items))]
    assert output.id is not None


def test_a_picture_out_of_the_vault_is_a_source_and_not_an_upload_that_would_die_with_the_edit() -> None:
    stage = Stage()
    source = Upload(role="image", content=b"picture", sha256="e" * 64, source_item="f" * 32)  # type: ignore[arg-type]
    generate(request(uploads=(source,)), stage.parts(), stage.seen.append)
    (item,) = stage.vault.items.values()
    assert item.metadata["recipe"]["uploads"] == []
    assert item.metadata["recipe"]["sources"] == ["f" * 32]


def test_a_dead_worker_leaves_no_upload_behind() -> None:
    stage = Stage()

    def broken(job: Any, on_event: Any) -> Any:
        raise EngineFailed("the worker died")
        yield

    stage.engine._results = broken  # type: ignore[method-assign]
    with pytest.raises(EngineFailed):
        generate(request(uploads=(upload(),)), stage.parts(), stage.seen.append)
    assert stage.vault.items == {}
    assert stage.engine.closed == 1


def test_what_was_kept_before_a_crash_stays_with_its_upload() -> None:
    stage = Stage()
    results = stage.engine._results

    def one_then_dead(job: Any, on_event: Any) -> Any:
        yield from results(job, on_event)
        raise EngineFailed("the worker died")

    stage.engine._results = one_then_dead  # type: ignore[method-assign]
    with pytest.raises(EngineFailed):
        generate(request(uploads=(upload(),)), stage.parts(), stage.seen.append)
    assert len(stage.vault.items) == 2


def test_retention_is_what_was_asked() -> None:
    stage = Stage()
    (output,) = generate(request(retain=timedelta(hours=2)), stage.parts(), stage.seen.append)
    assert output.expires_at == NOON + timedelta(hours=2)


def test_the_default_retention_never_exceeds_the_plan() -> None:
    stage = Stage(accounts=FakeAccounts(longest=timedelta(days=7)))
    (output,) = generate(request(), stage.parts(), stage.seen.append)
    assert output.expires_at == NOON + timedelta(days=7)


def test_pixels_must_fill_their_picture() -> None:
    with pytest.raises(ValueError, match="fill"):
        RawImage(width_px=2, height_px=2, channels=3, pixels=b"short")
