"""What each registry operation makes of the content.  Pure: content in, content out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from fluxctx.accounts import strikes
from fluxctx.accounts.flags import Flag
from fluxctx.accounts.plans import NAMES, Change
from fluxctx.accounts.record import AccountRecord, TokenNote
from fluxctx.accounts.shape import Content, Invitation, Kept
from fluxctx.accounts.strikes import Strike
from fluxctx.accounts.terms import Acceptance, Terms
from fluxctx.domain import Account, AccountId, VaultId
from fluxctx.errors import AccountNotFound, InvalidRequest, NotAuthorised, NotFound, PlanForbids

CODE_BYTES = 16  # 128 random bits: no guessing, so a plain hash keeps it
REASON_LETTERS = 300
NAME_LETTERS = 64
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def find(content: Content, name: str) -> AccountRecord:
    """One account by its name; raises AccountNotFound."""
    wanted = unicodedata.normalize("NFC", name)
    for record in content.records:
        if record.account.name == wanted:
            return record
    raise AccountNotFound("no account has this name", hint="`fluxctx account list` shows them")


def with_record(content: Content, changed: AccountRecord) -> Content:
    """The content with one account's record replaced."""
    same = changed.account.id
    return replace(
        content, records=tuple(changed if one.account.id == same else one for one in content.records)
    )


# --- coming and going --------------------------------------------------------------------------------


def new_code(random: Callable[[int], bytes]) -> str:
    """An invitation code: 26 letters and digits in groups, easy to read out."""
    raw = base64.b32encode(random(CODE_BYTES)).decode().rstrip("=").lower()
    return "-".join(raw[start : start + 7] for start in range(0, len(raw), 7))


def code_hash(code: str) -> str:
    """What the registry keeps of a code; spaces, hyphens and case do not count."""
    plain = re.sub(r"[\s-]", "", code).lower()
    return hashlib.sha256(b"fluxctx/accounts/v1/invitation\n" + plain.encode()).hexdigest()


def invited(content: Content, plan: str, code: str, *, now: datetime, until: datetime) -> Content:
    """Add an invitation and forget those that are over; raises InvalidRequest."""
    check_plan(plan)
    if until <= now:
        raise InvalidRequest("an invitation ends after it begins")
    still = tuple(one for one in content.invitations if now < one.expires_at)
    fresh = Invitation(code_sha256=code_hash(code), plan=plan, created_at=now, expires_at=until)
    return replace(content, invitations=(*still, fresh))


def created(
    content: Content,
    name: str,
    account_id: AccountId,
    vault_id: VaultId,
    *,
    now: datetime,
    invitation: str | None,
) -> Content:
    """Add an account; see `Registry.create`."""
    name = checked_name(name)
    if any(record.account.name == name for record in content.records):
        raise InvalidRequest("an account of this name is already there", hint="choose another name")
    first = not content.records
    plan = "ultra"
    if not first:
        used = _redeemed(content, invitation, now)
        plan = used.plan
        content = replace(content, invitations=tuple(one for one in content.invitations if one != used))
    account = Account(
        id=account_id,
        name=name,
        vault_id=vault_id,
        plan=plan,
        role="operator" if first else "user",
        status="active",
        created_at=now,
    )
    return replace(content, records=(*content.records, AccountRecord(account=account)))


def _redeemed(content: Content, code: str | None, now: datetime) -> Invitation:
    if code is not None:
        wanted = code_hash(code)
        for one in content.invitations:
            if hmac.compare_digest(one.code_sha256, wanted) and now < one.expires_at:
                return one
    raise NotAuthorised(
        "another account on this machine needs an invitation",
        hint="the operator makes one with `fluxctx account create`; each works once and until its end",
    )


def deleted(
    content: Content, name: str, *, now: datetime, successor: str | None
) -> tuple[Content, Kept | None]:
    """Take an account out; see `Registry.delete`."""
    gone = find(content, name)
    rest = tuple(one for one in content.records if one != gone)
    if rest and not any(one.account.role == "operator" for one in rest):
        if successor is None:
            raise InvalidRequest(
                "the last operator leaves other accounts behind", hint="name the next one with --successor"
            )
        next_one = find(replace(content, records=rest), successor)
        promoted = replace(next_one, account=replace(next_one.account, role="operator"))
        rest = tuple(promoted if one == next_one else one for one in rest)
    kept = Kept(record=gone, deleted_at=now) if gone.effects.keeps_records else None
    return replace(content, records=rest, kept=(*content.kept, kept) if kept else content.kept), kept


# --- one account changes -----------------------------------------------------------------------------


def granted(record: AccountRecord, change: Change) -> AccountRecord:
    """Add a grant; an earlier one on the same thing, and a removal of it, go."""
    return replace(
        record, grants=(*_without(record.grants, change), change), removals=_without(record.removals, change)
    )


def revoked(record: AccountRecord, change: Change) -> AccountRecord:
    """Take a grant back, and remove the thing from what the plan gives."""
    return replace(
        record, grants=_without(record.grants, change), removals=(*_without(record.removals, change), change)
    )


def _without(changes: tuple[Change, ...], change: Change) -> tuple[Change, ...]:
    return tuple(one for one in changes if (one.kind, one.name) != (change.kind, change.name))


def reinstated(record: AccountRecord, now: datetime) -> AccountRecord:
    """Lift the measure and reverse the strikes that still stand."""
    pardoned = tuple(one if one.reversed_at else replace(one, reversed_at=now) for one in record.strikes)
    return replace(record, measure=None, strikes=pardoned)


def flagged(record: AccountRecord, flag: Flag, *, stands: bool) -> AccountRecord:
    """Set or lift one flag."""
    others = tuple(one for one in record.flags if one is not flag)
    return replace(record, flags=(*others, flag) if stands else others)


def accepted(record: AccountRecord, terms: Terms, now: datetime) -> AccountRecord:
    """Remember an acceptance; the same text twice is once."""
    if record.acceptances and record.acceptances[-1].covers(terms):
        return record
    fresh = Acceptance(version=terms.version, sha256=terms.sha256, at=now)
    return replace(record, acceptances=(*record.acceptances, fresh))


def struck(record: AccountRecord, strike: Strike) -> tuple[AccountRecord, bool]:
    """Add a strike; says whether it counted."""
    kept, counted = strikes.add_strike(record.strikes, strike)
    return replace(record, strikes=kept), counted


def unstruck(record: AccountRecord, strike_id: str, now: datetime) -> AccountRecord:
    """Reverse a strike; raises NotFound."""
    try:
        return replace(record, strikes=strikes.reverse_strike(record.strikes, strike_id, now))
    except KeyError as error:
        raise NotFound(
            "the account has no strike of this id", hint="`fluxctx account show` lists them"
        ) from error


def token_noted(record: AccountRecord, token: TokenNote, *, most: int, now: datetime) -> AccountRecord:
    """Remember a token; those that are over are forgotten; raises InvalidRequest, PlanForbids."""
    name = checked_name(token.name)
    still = tuple(one for one in record.tokens if one.expires_at is None or now < one.expires_at)
    if any(one.name == name for one in still):
        raise InvalidRequest("a token of this name is already there", hint="choose another name or revoke it")
    if len(still) >= most:
        raise PlanForbids(
            f"the plan allows {most} API tokens", hint="revoke one first", details={"field": "api_tokens"}
        )
    return replace(record, tokens=(*still, replace(token, name=name)))


def token_forgotten(record: AccountRecord, name: str) -> AccountRecord:
    """Forget a token; raises NotFound."""
    kept = tuple(one for one in record.tokens if one.name != name)
    if kept == record.tokens:
        raise NotFound(
            "the account has no token of this name", hint="`fluxctx account token list` shows them"
        )
    return replace(record, tokens=kept)


# --- words that people write -------------------------------------------------------------------------


def checked_name(name: str) -> str:
    """A name in NFC: 1 to 64 letters, no control or direction character; raises InvalidRequest."""
    name = unicodedata.normalize("NFC", name)
    if not 1 <= len(name) <= NAME_LETTERS or CONTROL.search(name) or name != name.strip():
        raise InvalidRequest(
            "not a name",
            hint=f"1 to {NAME_LETTERS} letters, without control characters or spaces at the ends",
        )
    return name


def reason(text: str) -> str:
    """An operator's reason, which the owner will read: one line; raises InvalidRequest."""
    text = text.strip()
    if not 1 <= len(text) <= REASON_LETTERS or CONTROL.search(text):
        raise InvalidRequest(
            "a reason is one line", hint=f"1 to {REASON_LETTERS} letters; the owner will read it"
        )
    return text


def check_plan(plan: str) -> None:
    """Raises InvalidRequest for anything but free, pro and ultra."""
    if plan not in NAMES:
        raise InvalidRequest("no such plan", hint=f"one of {', '.join(NAMES)}")
