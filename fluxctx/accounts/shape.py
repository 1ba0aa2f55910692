"""The registry's content as JSON and back.  Strict: what is not understood is damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from fluxctx.accounts.flags import Flag
from fluxctx.accounts.plans import NAMES, parse_change
from fluxctx.accounts.record import AccountRecord, Measure, TokenNote
from fluxctx.accounts.strikes import Strike
from fluxctx.accounts.terms import Acceptance
from fluxctx.domain import Account, AccountId, VaultId, Workflow

SCHEMA = "fluxctx.accounts/1"
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A single-use right to make an account; the registry knows the code by its hash only."""

    code_sha256: str
    plan: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a hold kept of a deleted account: its record, never an item."""

    record: AccountRecord
    deleted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Everything in the registry; `revision` rises with each change."""

    revision: int = 0
    records: tuple[AccountRecord, ...] = ()
    invitations: tuple[Invitation, ...] = ()
    kept: tuple[Kept, ...] = field(default=())


def render(content: Content) -> bytes:
    """The content as JSON with sorted names."""
    value = {
        "schema": SCHEMA,
        "revision": content.revision,
        "accounts": [_record_out(one) for one in content.records],
        "invitations": [
            {
                "code_sha256": one.code_sha256,
                "plan": one.plan,
                "created_at": one.created_at.isoformat(),
                "expires_at": one.expires_at.isoformat(),
            }
            for one in content.invitations
        ],
        "kept": [
            {"record": _record_out(one.record), "deleted_at": one.deleted_at.isoformat()}
            for one in content.kept
        ],
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def parse(raw: bytes) -> Content:
    """Read the content; raises ValueError, KeyError or TypeError for anything that `render` did not write."""
    value = json.loads(raw)
    if value["schema"] != SCHEMA:
        raise ValueError("schema")
    content = Content(
        revision=int(value["revision"]),
        records=tuple(_record_in(one) for one in value["accounts"]),
        invitations=tuple(
            Invitation(
                code_sha256=one["code_sha256"],
                plan=_one_of(NAMES, one["plan"]),
                created_at=_at(one["created_at"]),
                expires_at=_at(one["expires_at"]),
            )
            for one in value["invitations"]
        ),
        kept=tuple(
            Kept(record=_record_in(one["record"]), deleted_at=_at(one["deleted_at"])) for one in value["kept"]
        ),
    )
    if render(content) != raw:
        raise ValueError("not what this version writes")
    return content


def _record_out(record: AccountRecord) -> dict[str, Any]:
    account, measure = record.account, record.measure
    return {
        "id": account.id,
        "name": account.name,
        "vault_id": account.vault_id,
        "plan": account.plan,
        "role": account.role,
        "created_at": account.created_at.isoformat(),
        "measure": measure
        and {
            "level": measure.level,
            "reason": measure.reason,
            "since": measure.since.isoformat(),
            "until": measure.until and measure.until.isoformat(),
            "workflows": [str(one) for one in measure.workflows],
        },
        "grants": [str(one) for one in record.grants],
        "removals": [str(one) for one in record.removals],
        "flags": [str(one) for one in record.flags],
        "strikes": [_strike_out(one) for one in record.strikes],
        "acceptances": [
            {"version": one.version, "sha256": one.sha256, "at": one.at.isoformat()}
            for one in record.acceptances
        ],
        "tokens": [
            {
                "name": one.name,
                "digest": one.digest,
                "created_at": one.created_at.isoformat(),
                "expires_at": one.expires_at and one.expires_at.isoformat(),
            }
            for one in record.tokens
        ],
    }


def _record_in(value: dict[str, Any]) -> AccountRecord:
    account = Account(
        id=AccountId(value["id"]),
        name=value["name"],
        vault_id=VaultId(value["vault_id"]),
        plan=_one_of(NAMES, value["plan"]),
        role=_one_of(("operator", "user"), value["role"]),
        status="active",
        created_at=_at(value["created_at"]),
    )
    return AccountRecord(
        account=account,
        measure=_maybe(_measure_in, value["measure"]),
        grants=tuple(parse_change(one) for one in value["grants"]),
        removals=tuple(parse_change(one) for one in value["removals"]),
        flags=tuple(Flag(one) for one in value["flags"]),
        strikes=tuple(_strike_in(one) for one in value["strikes"]),
        acceptances=tuple(
            Acceptance(version=one["version"], sha256=one["sha256"], at=_at(one["at"]))
            for one in value["acceptances"]
        ),
        tokens=tuple(
            TokenNote(
                name=one["name"],
                digest=one["digest"],
                created_at=_at(one["created_at"]),
                expires_at=_maybe(_at, one["expires_at"]),
            )
            for one in value["tokens"]
        ),
    )


def _measure_in(value: dict[str, Any]) -> Measure:
    return Measure(
        level=_one_of(("restricted", "suspended"), value["level"]),
        reason=value["reason"],
        since=_at(value["since"]),
        until=_maybe(_at, value["until"]),
        workflows=tuple(Workflow(one) for one in value["workflows"]),
    )


def _strike_out(strike: Strike) -> dict[str, Any]:
    return {
        "id": strike.id,
        "at": strike.at.isoformat(),
        "category": strike.category,
        "rule": strike.rule,
        "source": strike.source,
        "digest": strike.digest,
        "policy_revision": strike.policy_revision,
        "reversed_at": strike.reversed_at and strike.reversed_at.isoformat(),
    }


def _strike_in(value: dict[str, Any]) -> Strike:
    return Strike(
        id=value["id"],
        at=_at(value["at"]),
        category=value["category"],
        rule=value["rule"],
        source=_one_of(("locked-rule", "confirmed"), value["source"]),
        digest=value["digest"],
        policy_revision=value["policy_revision"],
        reversed_at=_maybe(_at, value["reversed_at"]),
    )


def _at(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at


def _maybe(read: Callable[[Any], Value], value: Any) -> Value | None:
    return None if value is None else read(value)


def _one_of(allowed: tuple[str, ...], value: str) -> Any:
    if value not in allowed:
        raise ValueError("not an allowed word")
    return value
