"""What opens a vault and whether it is sound: passphrase, recovery phrase, key file, check.  Use cases."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fluxctx.domain import utc
from fluxctx.errors import InvalidRequest
from fluxctx.runtime import Runtime
from fluxctx.vault import unlocking
from fluxctx.vault.check import verify
from fluxctx.vault.format import SlotKind


def change_passphrase(runtime: Runtime) -> int:
    """Replace the passphrase; returns how many old slots were overwritten.  Raises VaultLocked without a new one."""
    new = unlocking.passphrase(runtime.passphrases.require_new())
    return len(runtime.vault().replace_secret(new, now=runtime.now(), kdf=unlocking.calibrated()))


def new_recovery_phrase(runtime: Runtime) -> str:
    """Make a new 24-word phrase and overwrite the older ones; shown once by the caller, stored nowhere."""
    words = unlocking.new_recovery_phrase()
    runtime.vault().replace_secret(unlocking.recovery_phrase(words), now=runtime.now())
    return words


def add_key_file(runtime: Runtime, content: bytes) -> int:
    """Let a key file open the vault; returns its slot's number."""
    return runtime.vault().add_secret(unlocking.key_file(content), now=runtime.now())


def key_slots(runtime: Runtime) -> list[dict[str, Any]]:
    """What may be known of the slots without a passphrase."""
    from fluxctx import wiring
    from fluxctx.vault.cells import KeysFile
    from fluxctx.vault.sweep import moment

    paths = wiring.vault_paths(runtime.places, runtime.require_account().vault_id)
    keys = KeysFile(paths.keys)
    try:
        return [
            {"slot": number, "kind": slot.kind.name.lower(), "created_at": utc(moment(slot.created_ms))}
            for number, slot in keys.key_slots()
        ]
    finally:
        keys.close()


def remove_key_slot(runtime: Runtime, number: int) -> None:
    """Overwrite a slot; raises InvalidRequest for one that is not there or the last that a person can open."""
    slots = dict(runtime.vault().keys.key_slots())
    if number not in slots:
        raise InvalidRequest("there is no such slot", hint="`fluxctx vault slots` lists them")
    people = [n for n, slot in slots.items() if slot.kind is not SlotKind.TOKEN]
    if people == [number]:
        raise InvalidRequest("the last slot that opens the vault stays", hint="add another secret first")
    runtime.vault().keys.remove_key_slot(number)


def verify_vault(runtime: Runtime) -> tuple[int, list[dict[str, Any]]]:
    """Check every byte of every item; (items checked, faults)."""
    checked, faults = verify(runtime.vault(), now=runtime.now())
    return checked, [asdict(fault) for fault in faults]


def vault_stats(runtime: Runtime) -> dict[str, Any]:
    """Count what is there, by kind."""
    kinds: dict[str, int] = {}
    size = 0
    for item in runtime.vault().every(now=runtime.now()):
        kinds[str(item.kind)] = kinds.get(str(item.kind), 0) + 1
        size += item.size_bytes
    return {"items": sum(kinds.values()), "bytes": size, "kinds": kinds, "cells": len(runtime.vault().keys)}
