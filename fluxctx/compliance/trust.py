"""Every promise, measured now: the table of promises with a probe each.

A line is `kept` only because a probe that ran just now said so.  Probes are handed in; a missing one is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from fluxctx.errors import FluxctxError

State = Literal["kept", "amber", "not kept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a probe saw."""

    state: State
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One row of the table, without its measurement: `repeat` is how an auditor checks it without trusting us."""

    id: str
    title: str
    mechanism: str
    repeat: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One promise, measured."""

    id: str
    title: str
    mechanism: str
    repeat: str
    state: State
    evidence: str


PROMISES: tuple[Promise, ...] = (
    Promise(
        id="P1",
        title="inference only",
        mechanism="inputs go to a worker without network, writable files or keys",
        repeat="strace -f -e trace=network,openat fluxctx generate ...",
    ),
    Promise(
        id="P2",
        title="no AI training",
        mechanism="no optimiser or backward pass in the package; weights frozen and hashed before and after",
        repeat="grep -rE '\\.backward\\(|torch\\.optim' $(python -c 'import fluxctx;print(fluxctx.__path__[0])')",
    ),
    Promise(
        id="P3",
        title="no feedback loops",
        mechanism="every socket refused in the worker; telemetry switches of every dependency off; no content in logs",
        repeat="unshare -rn fluxctx generate ...",
    ),
    Promise(
        id="P4",
        title="auto-deletion",
        mechanism="the item's key dies at its date, while the vault is locked; a timer runs the sweep",
        repeat="fluxctx generate ... --retain 1m; sleep 60; fluxctx sweep; fluxctx show ID",
    ),
    Promise(
        id="P5",
        title="encrypted storage",
        mechanism="AES-256-GCM under a key an item, wrapped under an Argon2id-protected master key",
        repeat="grep -r 'a word of your prompt' FLUXCTX_HOME",
    ),
    Promise(
        id="P6",
        title="default for all users",
        mechanism="no flag, plan or setting turns a protection off",
        repeat="fluxctx config show; fluxctx discover",
    ),
    Promise(
        id="P7",
        title="account-based availability",
        mechanism="plans and grants over models, sizes, steps, counts and workflows; account status",
        repeat="fluxctx account show",
    ),
    Promise(
        id="P8",
        title="policy enforcement",
        mechanism="prompt, uploads and results are judged offline before anything is made or shown",
        repeat="fluxctx policy check TEXT",
    ),
    Promise(
        id="P9",
        title="user responsibility",
        mechanism="terms with a version, accepted before the first run; strikes with fixed thresholds",
        repeat="fluxctx terms show; fluxctx account show",
    ),
    Promise(
        id="P10",
        title="data lifecycle",
        mechanism="upload, inference, sealed storage for the owner alone, deletion: one flow in one file",
        repeat="fluxctx show ID --lifecycle",
    ),
    Promise(
        id="P11",
        title="data processing agreement",
        mechanism="an agreement filled from the live configuration",
        repeat="fluxctx dpa generate; fluxctx dpa verify",
    ),
    Promise(
        id="P12",
        title="you are in control",
        mechanism="purge, export and account deletion, self-service, with a receipt in the ledger",
        repeat="fluxctx purge ID; fluxctx export ID",
    ),
    Promise(
        id="P13",
        title="written confirmation",
        mechanism="a signed letter of what was observed on this installation",
        repeat="fluxctx confirm",
    ),
)


def measure(probes: Mapping[str, Callable[[], Seen]], *, only: Collection[str] | None = None) -> list[Line]:
    """Run each promise's probe; one that fails or is missing means not kept, with the reason as evidence."""
    lines = []
    for promise in PROMISES:
        if only is not None and promise.id not in only:
            continue
        probe = probes.get(promise.id)
        try:
            seen = probe() if probe else Seen(state="not kept", evidence="not part of this version yet")
        except FluxctxError as error:
            seen = Seen(state="not kept", evidence=f"the probe failed: {error.message}")
        lines.append(
            Line(
                id=promise.id,
                title=promise.title,
                mechanism=promise.mechanism,
                repeat=promise.repeat,
                state=seen.state,
                evidence=seen.evidence,
            )
        )
    return lines
