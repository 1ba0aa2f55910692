"""The composition root: settings -> real parts, each opened when it is first needed and closed at the end.

The only place that reads the clock or randomness for others.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fluxctx.config import Config
from fluxctx.domain import (
    Account,
    Event,
    GenerationRequest,
    Item,
    ItemId,
    JobId,
    Output,
    RawImage,
    SweepResult,
    Workflow,
)
from fluxctx.errors import AccountNotFound, ItemNotFound, VaultLocked
from fluxctx.passphrase import Passphrases

if TYPE_CHECKING:
    from fluxctx.accounts.registry import Registry
    from fluxctx.engine.catalog import Catalog
    from fluxctx.engine.client import Engine
    from fluxctx.ledger.store import Ledger
    from fluxctx.media.client import MediaRoom
    from fluxctx.policy.filter import PolicyFilter
    from fluxctx.provenance.authority import Authority
    from fluxctx.provenance.verify import Assertions
    from fluxctx.vault.store import Vault

Part = TypeVar("Part")
Warn = Callable[[str, str], None]


class Runtime:
    """One process's open parts.  A context manager: leaving it ends the children and forgets the keys."""

    def __init__(
        self,
        config: Config,
        *,
        passphrase_file: str | None = None,
        passphrase_fd: int | None = None,
        may_ask: bool = False,
        accept_terms: bool = False,
        timeout: timedelta | None = None,
        warn: Warn = lambda code, message: None,
    ) -> None:
        self.config, self.places, self.warn = config, config.places, warn
        self.passphrases = Passphrases(
            config, file=passphrase_file, fd=passphrase_fd, may_ask=may_ask, warn=warn
        )
        self.accepts_terms = accept_terms or config.switch("FLUXCTX_ACCEPT_TERMS")
        self.timeout = timeout or (config.duration("timeout") or None)
        self._stack = ExitStack()
        self._parts: dict[str, Any] = {}
        self._swept: SweepResult | None = None
        self.unsettled: dict[str, tuple[int, ...]] = {}
        self.account: Account | None = None

    def __enter__(self) -> Self:
        from fluxctx.confined.arguments import hide_arguments
        from fluxctx.confined.spawn import protect_parent

        hide_arguments()
        protect_parent()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._parts.clear()

    # --- clock and randomness -----------------------------------------------------------------------

    def now(self) -> datetime:
        return datetime.now(UTC)

    def running_s(self) -> float:
        """Seconds this machine has run, sleep included: a clock that nobody sets."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def job_id(self) -> JobId:
        return JobId("job_" + secrets.token_hex(8))

    # --- parts, opened once ---------------------------------------------------------------------------

    def registry(self) -> Registry:
        from fluxctx import wiring

        return self._part("registry", lambda: wiring.open_registry(self.places))

    def catalog(self) -> Catalog:
        from fluxctx import wiring

        return self._part("catalog", lambda: wiring.open_catalog(self.places))

    def engine(self) -> Engine:
        from fluxctx import wiring

        return self._part(
            "engine", lambda: wiring.open_engine(self.catalog(), self.config, self.timeout), close=True
        )

    def media(self) -> MediaRoom:
        from fluxctx.media.client import MediaRoom

        return self._part("media", MediaRoom, close=True)

    def policy(self) -> PolicyFilter:
        from fluxctx import wiring

        return self._part("policy", lambda: wiring.open_policy(self.places, self.config, self.media))

    def vault(self) -> Vault:
        """The unlocked vault; raises VaultLocked where open_account did not unlock it."""
        if "vault" not in self._parts:
            raise VaultLocked("the vault is locked", hint="give the passphrase")
        vault: Vault = self._parts["vault"]
        return vault

    def ledger(self) -> Ledger:
        """The account's ledger: signed and sealed while the vault is open, clear entries only while it is not."""
        from fluxctx import wiring

        vault = self._parts.get("vault")
        name = "ledger" if vault else "locked ledger"
        return self._part(
            name, lambda: wiring.open_account_ledger(self.places, self.require_account(), vault)
        )

    def _part(self, name: str, open_part: Callable[[], Part], *, close: bool = False) -> Part:
        if name not in self._parts:
            opened: Any = open_part()
            if close:
                self._stack.callback(opened.close)
            self._parts[name] = opened
        part: Part = self._parts[name]
        return part

    # --- the account ------------------------------------------------------------------------------------

    def open_account(self, *, create: bool = False, ephemeral: bool = False, unlock: bool = True) -> Account:
        """Find the account, sweep, and unlock its vault unless nothing of it is needed.

        Raises AccountNotFound, VaultLocked, WrongPassphrase, VaultDamaged, VaultNewer.
        """
        name = str(self.config.get("account"))
        accounts = self.registry().accounts(self.now())
        found = next((account for account in accounts if account.name == name), None)
        if found is None and not accounts and create and self.passphrases.given() is not None:
            found = self.create_account()
        if found is None:
            what = "no such account" if accounts else "no account here yet"
            raise AccountNotFound(
                what, hint="`fluxctx account list` names them" if accounts else "run `fluxctx init`"
            )
        self.account = found
        self.sweep()
        if unlock and not ephemeral and "vault" not in self._parts:
            from fluxctx import wiring

            vault = wiring.unlock(self.places, found, self.passphrases, self.now())
            self._stack.callback(vault.close)
            self._parts["vault"] = vault
            vault.settle(
                self.unsettled.get(found.vault_id, ()),
                now=self.now(),
                on_deaths=lambda deaths: self.ledger().append_deaths(deaths, at=self.now()),
            )
        return found

    def require_account(self) -> Account:
        if self.account is None:
            raise AccountNotFound("no account is open", hint="fluxctx init makes the first one")
        return self.account

    def create_account(self, invite: str | None = None) -> Account:
        """Make an account with a vault of its own; the first one on a machine owns it."""
        from fluxctx import wiring

        account, vault = wiring.create_account(self, invite)
        self.account = account
        self._stack.callback(vault.close)
        self._parts["vault"] = vault
        return account

    def destroy_home(self) -> None:
        """Destroy every vault's keys in place, then all of the home's files."""
        import shutil

        from fluxctx import wiring

        root = self.places.state / "vaults"
        for state in sorted(root.iterdir()) if root.is_dir() else []:
            wiring.forget_vault(wiring.vault_paths(self.places, state.name))
        for path in (self.places.data, self.places.state, self.places.config):
            shutil.rmtree(path, ignore_errors=True)

    # --- use cases ----------------------------------------------------------------------------------------

    def sweep(self, *, force: bool = False) -> SweepResult:
        """Sweep every vault of this home, once a command; the deaths go into each account's ledger."""
        from fluxctx import wiring

        if self._swept is None or force:
            self._swept = wiring.sweep_home(self)
        return self._swept

    def check_model(self, request: GenerationRequest) -> None:
        """Refuse an unknown model and a size or step count it cannot do; nothing is opened for that.

        Raises ModelNotFound, InvalidRequest.
        """
        model = self.engine().find(request.model)
        if request.workflow is Workflow.TEXT_TO_IMAGE:
            self.engine().plan(request, model, self.job_id(), {})

    def start(self, request: GenerationRequest) -> None:
        """Begin the children's imports while this process is busy elsewhere; they learn no prompt."""
        model = self.engine().find(request.model)
        self.engine().warm(model, dtype=request.dtype)
        self.media().start(uploads=bool(request.uploads))

    def generate(self, request: GenerationRequest, on_event: Callable[[Event], None]) -> list[Output]:
        """Run the flow with the real parts."""
        from fluxctx import generation, wiring

        job_id = self.job_id()
        if hasattr(on_event, "job"):
            on_event.job = job_id
        parts = generation.Parts(
            account=self.require_account(),
            accounts=wiring.open_admission(self),
            policy=self.policy(),
            engine=self.engine(),
            media=self.media(),
            vault=None if request.ephemeral else self.vault(),
            ledger=self.ledger(),
            sweep=self.sweep,
            now=self.now,
            job_id=job_id,
            previews=getattr(on_event, "wants_previews", False),
        )
        return generation.generate(request, parts, on_event)

    def encode_preview(self, image: RawImage) -> bytes:
        """A partial picture as a small marked JPEG."""
        from fluxctx import wiring

        return self.media().preview(image, marks=wiring.marks("none", None, edited=False))

    def resolve(self, reference: str) -> ItemId:
        return self.vault().resolve(reference, now=self.now())

    def facts_of(self, item_id: ItemId) -> dict[str, Any]:
        """An item's sealed facts (recipe, tags); an item that dies between two looks has none."""
        try:
            return dict(self.vault().metadata(item_id, now=self.now()))
        except ItemNotFound:
            return {}

    def tags_of(self, item_id: ItemId) -> dict[str, str]:
        return dict(self.facts_of(item_id).get("tags", {}))

    def purge(self, ids: Sequence[ItemId]) -> list[Any]:
        from fluxctx import lifecycle

        return lifecycle.purge(ids, self.vault(), self.ledger(), now=self.now())

    def retain(self, item_id: ItemId, span: timedelta) -> Item:
        from fluxctx import lifecycle, wiring

        longest = wiring.longest_retention(self)
        return lifecycle.retain(item_id, span, self.vault(), self.ledger(), longest=longest, now=self.now())

    def import_file(self, content: bytes, *, tags: Mapping[str, str], retain: timedelta | None) -> Item:
        from fluxctx import lifecycle, wiring

        return lifecycle.import_file(
            content,
            self.vault(),
            self.media(),
            self.ledger(),
            tags=tags,
            retain=retain,
            longest=wiring.longest_retention(self),
            check=lambda image: self.policy().check_image(image, stage="upload"),
            now=self.now(),
        )

    def copy_out(self, output: Output, *, fmt: str, metadata: str, edited: bool) -> Any:
        """The decrypted, marked copy of an output that was just made."""
        recipe = None
        if metadata == "full" and output.id is not None:
            recipe = dict(self.vault().metadata(output.id, now=self.now())).get("recipe")
        return self._copy(output.content, output.mime, output.id, fmt, metadata, recipe, edited=edited)

    def copy_item(self, item_id: ItemId, *, fmt: str, metadata: str) -> Any:
        """The decrypted, marked copy of a stored item."""
        item = self.vault().get(item_id, now=self.now())
        recipe = dict(self.vault().metadata(item_id, now=self.now())).get("recipe")
        content = self.vault().read(item_id, "original", now=self.now())
        edited = recipe is None or bool(recipe["inputs"])
        return self._copy(content, item.mime, item_id, fmt, metadata, recipe, edited=edited)

    def _copy(
        self,
        content: bytes,
        mime: str,
        item_id: ItemId | None,
        fmt: str,
        metadata: str,
        recipe: Any,
        *,
        edited: bool,
    ) -> Any:
        from fluxctx import lifecycle, wiring

        authority = self.authority() if "vault" in self._parts else None
        source = "image/png" if edited else None
        marks = wiring.marks(metadata, recipe, edited=edited, authority=authority, input_mime=source)
        return lifecycle.copy_out(
            content, mime, self.media(), self.ledger(), item_id=item_id, fmt=fmt, marks=marks, now=self.now()
        )

    def authority(self) -> Authority:
        """Who signs this account's copies."""
        from fluxctx import wiring

        account, vault = self.require_account(), self.vault()
        return self._part("authority", lambda: wiring.open_authority(self.places, account, vault, self.now()))

    def read_marks(self, content: bytes, anchors: bytes) -> Assertions:
        """What anybody's picture says of itself."""
        from fluxctx.provenance.verify import read_assertions

        return read_assertions(content, self.media(), anchors=anchors)

    def memory_file(self, content: bytes, *, suffix: str) -> AbstractContextManager[Path]:
        from fluxctx import lifecycle

        return lifecycle.memory_file(self.places.run, content, suffix=suffix)

    def check_picture(self, content: bytes) -> Any:
        """What the policy makes of a picture file."""
        import hashlib

        from fluxctx.domain import Upload

        upload = Upload(role="image", content=content, sha256=hashlib.sha256(content).hexdigest())
        image: RawImage = self.media().decode(upload)
        return self.policy().check_image(image, stage="upload")
