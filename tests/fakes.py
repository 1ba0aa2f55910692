"""Small honest fakes of the rooms, for the flow's own tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fluxctx.domain import (
    Account,
    AccountId,
    Action,
    Death,
    Encoded,
    Event,
    Finding,
    GenerationRequest,
    InstalledModel,
    Item,
    ItemId,
    JobId,
    NewItem,
    Preview,
    RawImage,
    Rendered,
    RenderJob,
    Size,
    SweepResult,
    Upload,
    VaultId,
    Verdict,
    Workflow,
)
from fluxctx.errors import TermsNotAccepted
from fluxctx.generation import OnEvent, Parts

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RED = RawImage(width_px=2, height_px=2, channels=3, pixels=b"\xff\0\0" * 4)
BLACK = RawImage(width_px=2, height_px=2, channels=3, pixels=bytes(12))
ACCOUNT = Account(
    id=AccountId("a" * 32),
    name="default",
    vault_id=VaultId("b" * 32),
    plan="ultra",
    role="operator",
    status="active",
    created_at=NOON,
)
MODEL = InstalledModel(
    name="starter",
    directory="/nowhere",
    pipeline="FluxPipeline",
    workflows=(Workflow.TEXT_TO_IMAGE, Workflow.EDIT),
    licence="MIT",
    sha256="c" * 64,
    size_bytes=1,
    requires_filter=False,
    native_sizes=(Size(width_px=2, height_px=2),),
    size_multiple=2,
    default_size=Size(width_px=2, height_px=2),
    default_steps=1,
    max_steps=10,
    default_guidance=1.0,
)


@dataclass
class FakeAccounts:
    terms_accepted: bool = True
    longest: timedelta = timedelta(days=365)

    def admit(self, account: Account, request: GenerationRequest, model: InstalledModel) -> timedelta:
        if not self.terms_accepted:
            raise TermsNotAccepted("the terms are not accepted")
        return self.longest


@dataclass
class FakePolicy:
    """Blocks the word `forbidden` and black pixels."""

    def check_text(self, fields: Mapping[str, str]) -> Verdict:
        return self._verdict(any("forbidden" in text for text in fields.values()))

    def check_image(self, image: RawImage, *, stage: str) -> Verdict:
        return self._verdict(image.pixels == BLACK.pixels)

    def _verdict(self, bad: bool) -> Verdict:
        finding = Finding(category="illegal_violence", rule="rule-a", score=1.0, locked=True)
        return Verdict(
            action=Action.BLOCK if bad else Action.ALLOW,
            findings=(finding,) if bad else (),
            policy_id="test",
            policy_revision=1,
        )


@dataclass
class FakeEngine:
    """Gives back the pictures it was told to, in order; `previews` come first."""

    results: Sequence[RawImage] = (RED,)
    previews: Sequence[RawImage] = ()
    jobs: list[RenderJob] = field(default_factory=list)
    closed: int = 0

    def find(self, name: str) -> InstalledModel:
        return MODEL

    def plan(
        self,
        request: GenerationRequest,
        model: InstalledModel,
        job_id: JobId,
        images: Mapping[str, Sequence[RawImage]],
    ) -> RenderJob:
        return RenderJob(
            job_id=job_id,
            model=model.name,
            workflow=request.workflow,
            prompt=request.prompt,
            render_size=model.default_size,
            steps=1,
            guidance=1.0,
            seeds=request.seeds,
            images=tuple(images.get("image", ())),
        )

    def output_size(self, request: GenerationRequest, model: InstalledModel) -> Size:
        return model.default_size

    @contextmanager
    def render(
        self, job: RenderJob, model: InstalledModel, on_event: OnEvent
    ) -> Iterator[Iterator[Rendered]]:
        self.jobs.append(job)
        try:
            yield self._results(job, on_event)
        finally:
            self.closed += 1

    def _results(self, job: RenderJob, on_event: OnEvent) -> Iterator[Rendered]:
        for number, image in enumerate(self.previews):
            on_event(Preview(index=0, partial_image_index=number, image=image))
        for index, image in enumerate(self.results):
            yield Rendered(
                index=index, seed=job.seeds[min(index, len(job.seeds) - 1)], image=image, runtime={}
            )


class FakeMedia:
    def decode(self, upload: Upload) -> RawImage:
        return BLACK if upload.content == b"black" else RED

    def encode(self, image: RawImage, *, size: Size) -> Encoded:
        return Encoded(
            mime="image/png",
            width_px=size.width_px,
            height_px=size.height_px,
            original=b"PNG" + image.pixels,
            thumbnail=b"T",
            pixels_sha256="d" * 64,
        )


@dataclass
class FakeVault:
    items: dict[ItemId, NewItem] = field(default_factory=dict)
    purged: list[ItemId] = field(default_factory=list)

    def put(self, items: Sequence[NewItem], *, now: datetime) -> list[Item]:
        made = []
        for new in items:
            item_id = ItemId(secrets.token_hex(16))
            self.items[item_id] = new
            made.append(
                Item(
                    id=item_id,
                    kind=new.kind,
                    created_at=now,
                    expires_at=new.expires_at,
                    size_bytes=len(new.parts["original"]),
                    mime=new.mime,
                )
            )
        return made

    def purge(self, ids: Sequence[ItemId], *, now: datetime, reason: str) -> Sequence[Death]:
        self.purged += ids
        return [Death(id=item_id, at=now, reason=reason) for item_id in ids if self.items.pop(item_id, None)]


@dataclass
class FakeLedger:
    entries: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = field(default_factory=list)

    @property
    def events(self) -> list[str]:
        return [event for event, _, _ in self.entries]

    def append(self, event: str, *, at: datetime, clear: Mapping[str, Any], sealed: Mapping[str, Any]) -> int:
        self.entries.append((event, clear, sealed))
        return len(self.entries) - 1


@dataclass
class Stage:
    """All the fakes of one run, and what the caller saw."""

    accounts: FakeAccounts = field(default_factory=FakeAccounts)
    policy: FakePolicy = field(default_factory=FakePolicy)
    engine: FakeEngine = field(default_factory=FakeEngine)
    media: FakeMedia = field(default_factory=FakeMedia)
    vault: FakeVault = field(default_factory=FakeVault)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    sweeps: int = 0
    seen: list[Event] = field(default_factory=list)

    def sweep(self) -> SweepResult:
        self.sweeps += 1
        return SweepResult()

    def parts(self, *, ephemeral: bool = False) -> Parts:
        return Parts(
            account=ACCOUNT,
            accounts=self.accounts,
            policy=self.policy,
            engine=self.engine,
            media=self.media,
            vault=None if ephemeral else self.vault,
            ledger=self.ledger,
            sweep=self.sweep,
            now=lambda: NOON,
            job_id=JobId("job_" + "0" * 16),
        )
