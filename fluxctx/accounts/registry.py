"""The account registry: one sealed file, changed under a lock, replaced whole.

It is sealed under the machine's key so that it does not lie about readable and an edit without the key shows.
Whoever administers the machine has that key: there, the registry is advisory (docs/concepts/accounts.md).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from fluxctx.accounts import changes, shape
from fluxctx.accounts.flags import Flag
from fluxctx.accounts.plans import parse_change
from fluxctx.accounts.record import AccountRecord, Measure, TokenNote, view
from fluxctx.accounts.shape import Content, Invitation, Kept
from fluxctx.accounts.strikes import Strike
from fluxctx.accounts.terms import Terms
from fluxctx.domain import Account, AccountId, VaultId, Workflow
from fluxctx.errors import (
    AccountNotFound,
    Busy,
    DiskFull,
    FluxctxError,
    HomeReadOnly,
    RegistryDamaged,
    StorageFailed,
)

CONTEXT = b"fluxctx/accounts/v1"
LOCK_WAIT_S = 30.0

Change = Callable[[AccountRecord], AccountRecord]


class MachineSealer(Protocol):
    """Authenticated encryption under the machine's key (OS keyring, else a 0600 file)."""

    def seal(self, context: bytes, data: bytes) -> bytes:
        """Seal `data` with `context` as associated data."""

    def open(self, context: bytes, data: bytes) -> bytes:
        """Open what `seal` made; raises an IntegrityError for another context, key or content."""


class Registry:
    """The accounts of one machine.  Every change is read, made and written back under one lock."""

    def __init__(self, path: Path, sealer: MachineSealer, *, sync: Callable[[int], None] = os.fsync) -> None:
        """Keep the accounts in `path` (`<data>/accounts.sealed`); the file is made by the first account."""
        self._path = path
        self._sealer = sealer
        self._sync = sync

    # --- reading -----------------------------------------------------------------------------------

    def read(self) -> Content:
        """Everything; raises RegistryDamaged where the file does not open under this machine's key."""
        try:
            sealed = self._path.read_bytes()
        except FileNotFoundError:
            return Content()
        except OSError as error:
            raise StorageFailed("the account registry cannot be read") from error
        try:
            return shape.parse(self._sealer.open(CONTEXT, sealed))
        except (FluxctxError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryDamaged(
                "the account registry does not open under this machine's key",
                hint="put the machine key or the file back from a backup; vaults and items are not touched",
            ) from error

    def record(self, account_id: AccountId) -> AccountRecord:
        """One account by its id; raises AccountNotFound."""
        for record in self.read().records:
            if record.account.id == account_id:
                return record
        raise AccountNotFound("no account has this id on this machine")

    def find(self, name: str) -> AccountRecord:
        """One account by its name; raises AccountNotFound."""
        return changes.find(self.read(), name)

    def accounts(self, now: datetime) -> list[Account]:
        """All accounts as they stand at `now`, oldest first."""
        return [view(record, now) for record in self.read().records]

    # --- accounts come and go ----------------------------------------------------------------------

    def create(
        self,
        name: str,
        account_id: AccountId,
        vault_id: VaultId,
        *,
        now: datetime,
        invitation: str | None = None,
    ) -> Account:
        """Enter an account: the first is the operator on plan ultra, each other needs an invitation.

        Raises:
            InvalidRequest: the name is taken or no name.
            NotAuthorised: no invitation, or one that is unknown, used or over.
        """
        with self._changing() as content:
            changed = changes.created(content, name, account_id, vault_id, now=now, invitation=invitation)
            self._write(changed)
        return view(changed.records[-1], now)

    def invite(self, plan: str, code: str, *, now: datetime, until: datetime) -> None:
        """Let one person make an account on `plan` with `code` (`changes.new_code`); InvalidRequest."""
        with self._changing() as content:
            self._write(changes.invited(content, plan, code, now=now, until=until))

    def invitations(self, now: datetime) -> list[Invitation]:
        """The invitations that can still be used."""
        return [one for one in self.read().invitations if now < one.expires_at]

    def delete(self, name: str, *, now: datetime, successor: str | None = None) -> Kept | None:
        """Take an account off the machine; its vault is the caller's to destroy first.

        Returns what a fraud, dispute or legal hold keeps (the record, never an item), else None.

        Raises:
            AccountNotFound: no such account or successor.
            InvalidRequest: the last operator leaves others behind and names no successor.
        """
        with self._changing() as content:
            changed, kept = changes.deleted(content, name, now=now, successor=successor)
            self._write(changed)
        return kept

    # --- an account changes ------------------------------------------------------------------------

    def set_plan(self, name: str, plan: str) -> AccountRecord:
        """Move an account to another plan; raises AccountNotFound, InvalidRequest."""
        changes.check_plan(plan)
        return self._change(name, lambda record: replace(record, account=replace(record.account, plan=plan)))

    def grant(self, name: str, text: str) -> AccountRecord:
        """Add a grant such as "model:flux-dev"; a removal of the same goes; raises InvalidRequest."""
        change = parse_change(text)
        return self._change(name, lambda record: changes.granted(record, change))

    def revoke(self, name: str, text: str) -> AccountRecord:
        """Take something away, from the grants and from the plan alike; raises InvalidRequest."""
        change = parse_change(text)
        return self._change(name, lambda record: changes.revoked(record, change))

    def restrict(
        self,
        name: str,
        reason: str,
        *,
        now: datetime,
        until: datetime | None = None,
        workflows: tuple[Workflow, ...] = (),
    ) -> AccountRecord:
        """Take generation away, all of it or the named workflows; export, purge and deletion stay."""
        measure = Measure(
            level="restricted", reason=changes.reason(reason), since=now, until=until, workflows=workflows
        )
        return self._change(name, lambda record: replace(record, measure=measure))

    def suspend(
        self, name: str, reason: str, *, now: datetime, until: datetime | None = None
    ) -> AccountRecord:
        """Take all generation away; export, purge and deletion stay."""
        measure = Measure(level="suspended", reason=changes.reason(reason), since=now, until=until)
        return self._change(name, lambda record: replace(record, measure=measure))

    def reinstate(self, name: str, *, now: datetime) -> AccountRecord:
        """Lift the operator's measure and reverse every strike; flags have their own command."""
        return self._change(name, lambda record: changes.reinstated(record, now))

    def flag(self, name: str, flag: Flag, *, stands: bool = True) -> AccountRecord:
        """Set or lift one flag; its effects are flags.EFFECTS."""
        return self._change(name, lambda record: changes.flagged(record, flag, stands=stands))

    def record_terms(self, name: str, terms: Terms, *, now: datetime) -> AccountRecord:
        """Remember that the account accepted exactly this text."""
        return self._change(name, lambda record: changes.accepted(record, terms, now))

    def record_strike(self, name: str, strike: Strike) -> tuple[AccountRecord, bool]:
        """Add a strike; says whether it counted (a retry of the same prompt does not)."""
        counted = False

        def add(record: AccountRecord) -> AccountRecord:
            nonlocal counted
            changed, counted = changes.struck(record, strike)
            return changed

        return self._change(name, add), counted

    def reverse_strike(self, name: str, strike_id: str, *, now: datetime) -> AccountRecord:
        """Give back what a strike took, after an appeal; raises AccountNotFound, NotFound."""
        return self._change(name, lambda record: changes.unstruck(record, strike_id, now))

    def note_token(self, name: str, token: TokenNote, *, most: int, now: datetime) -> AccountRecord:
        """Remember an API token's name, digest and end; raises InvalidRequest, PlanForbids."""
        return self._change(name, lambda record: changes.token_noted(record, token, most=most, now=now))

    def forget_token(self, name: str, token: str) -> AccountRecord:
        """Forget an API token; its slot in the vault is the caller's to zero first; raises NotFound."""
        return self._change(name, lambda record: changes.token_forgotten(record, token))

    # --- the file ----------------------------------------------------------------------------------

    def _change(self, name: str, change: Change) -> AccountRecord:
        with self._changing() as content:
            changed = change(changes.find(content, name))
            self._write(changes.with_record(content, changed))
        return changed

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Content]:
        """Hold the lock beside the file while the content is read, changed and written."""
        with _storage_errors():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600
            )
            try:
                _lock(descriptor)
                yield self.read()
            finally:
                os.close(descriptor)

    def _write(self, content: Content) -> None:
        """Seal and replace: a reader sees the old file or the new one."""
        sealed = self._sealer.seal(CONTEXT, shape.render(replace(content, revision=content.revision + 1)))
        part = self._path.with_name(self._path.name + ".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            rest = memoryview(sealed)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            self._sync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._sync(directory)
        finally:
            os.close(directory)


def _lock(descriptor: int) -> None:
    """Wait for the lock; it goes with the descriptor, and with the process."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise Busy("another process is changing the accounts") from error
            time.sleep(0.002)
        else:
            return


@contextlib.contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn the operating system's refusal into ours, without a path in it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("no space is left for the account registry") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise HomeReadOnly("the account registry cannot be written") from error
        raise StorageFailed("the account registry could not be written") from error
