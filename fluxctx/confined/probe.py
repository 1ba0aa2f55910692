"""The probe: the ways out, tried from inside a confined child and, as a control, from outside of any sandbox.

`doctor --isolation` and `trust` run it, and a worker can be made to run it before its first prompt:

    report = run_probe()            # a fresh confined child
    report = run_probe(worker)      # a worker that answers "probe" frames, warm or not
    worker, report = spawn_probed(module, grants=...)   # the worker itself, before it imports its module
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fluxctx.confined.attempts import BY_NAME
from fluxctx.confined.listeners import Listeners, listen
from fluxctx.confined.spawn import ENVIRONMENT, Child, Grants, Layers, check_platform, launch, spawn
from fluxctx.errors import EngineFailed

Results = dict[str, dict[str, Any]]
SHOW_WORDS = "show words on its own command line"  # seen from outside, not attempted

__all__ = ["Attempt", "Listeners", "ProbeReport", "listen", "run_probe", "spawn_probed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One way out: whether the child was refused, and whether the control got through."""

    name: str
    group: str  # network, write, read, process or state
    mandatory: bool  # the floor alone must refuse it
    refused: bool
    control: bool  # an attempt that fails without a sandbox too says nothing
    errno: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """What the child tried and what arrived."""

    attempts: tuple[Attempt, ...]
    layers: Layers
    hits: tuple[str, ...]  # listeners that the confined child reached
    control_hits: tuple[str, ...]  # listeners that the control reached
    listeners: int

    @property
    def through(self) -> tuple[str, ...]:
        """What got through, on whatever layer; without Landlock this names the reading of files."""
        return tuple(attempt.name for attempt in self.attempts if not attempt.refused)

    @property
    def unproved(self) -> tuple[str, ...]:
        """What the control could not do either, so that the refusal proves nothing here."""
        return tuple(attempt.name for attempt in self.attempts if not attempt.control)

    @property
    def blind(self) -> bool:
        """Whether the control failed to reach a listener or to write: then the probe sees nothing."""
        essential = [attempt for attempt in self.attempts if attempt.group in ("network", "write")]
        return len(self.control_hits) < self.listeners or not all(attempt.control for attempt in essential)

    @property
    def kept(self) -> bool:
        """Whether everything mandatory was refused, nothing arrived, and the probe could see."""
        refused = all(attempt.refused for attempt in self.attempts if attempt.mandatory)
        return refused and not self.hits and not self.blind and self.layers.enforced

    def to_json(self) -> dict[str, Any]:
        """The report for the ledger and for `--json`: no path, no address."""
        return asdict(self) | {"kept": self.kept, "blind": self.blind, "through": self.through}


def run_probe(child: Child | None = None) -> ProbeReport:
    """Try every way out from inside `child` (a fresh one by default) and from the unsandboxed control.

    A child that is given must answer a "probe" frame with an "attempts" frame (attempts.run).

    Raises:
        ConfinementUnavailable: there is no floor on this machine.
        EngineFailed: the child or the control ended in the middle.
    """
    check_platform()
    with ExitStack() as stack:
        listeners = stack.enter_context(listen())
        control = stack.enter_context(start_control(listeners))
        if child is None:
            child = stack.enter_context(spawn("fluxctx.confined.attempts", grants=Grants()))
        child.ready()
        return compare(child, ask(child, listeners.targets()), control, listeners)


def spawn_probed(
    module: str, *, grants: Grants, env_extra: Mapping[str, str] | None = None, threads: int = 1
) -> tuple[Child, ProbeReport]:
    """spawn(), but the child tries every way out first, before it imports `module` and sees any prompt.

    Raises ConfinementUnavailable, EngineFailed; the caller decides what a report that is not `kept` means.
    """
    check_platform()
    with listen() as listeners, start_control(listeners) as control:
        child = spawn(
            module, grants=grants, env_extra=env_extra, threads=threads, targets=listeners.targets()
        )
        try:
            child.ready()
            return child, compare(child, by_name(child.attempts), control, listeners)
        except BaseException:
            child.close()
            raise


def compare(child: Child, confined: Results, control: Child, listeners: Listeners) -> ProbeReport:
    """Put what the child just tried beside what the control can do now."""
    hits = listeners.reached()
    free = ask(control, listeners.targets())
    control_hits = listeners.reached()
    shown = Attempt(
        name=SHOW_WORDS,
        group="state",
        mandatory=False,
        refused=not shows_words(child.pid),
        control=shows_words(control.pid),
        errno="",
    )
    assert child.layers is not None
    return ProbeReport(
        attempts=(*(judge(name, result, free.get(name, {})) for name, result in confined.items()), shown),
        layers=child.layers,
        hits=tuple(sorted(hits)),
        control_hits=tuple(sorted(control_hits)),
        listeners=listeners.expected(),
    )


def shows_words(pid: int) -> bool:
    """Whether everybody can read words that this process may change: its command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def start_control(listeners: Listeners) -> Child:
    """Start the control with the descriptor that a careless spawn would have left open."""
    arguments = ["-I", "-B", "-m", "fluxctx.confined.control"]

    def command(fd: str) -> list[str]:
        return [sys.executable, *arguments, fd]

    return Child(lambda: launch(command, ENVIRONMENT, leak=(listeners.leak_fd,)), start={})


def ask(child: Child, targets: Mapping[str, Any]) -> Results:
    """Send the targets and return the results by name; raises EngineFailed."""
    try:
        child.channel.send("probe", dict(targets))
        frame = child.channel.recv()
    except EOFError:
        raise EngineFailed("a probed process ended before it had tried everything") from None
    results = frame.head.get("attempts") if frame.kind == "attempts" else None
    if not isinstance(results, list):
        raise EngineFailed("a probed process answered something else")
    return by_name(results)


def by_name(results: Iterable[dict[str, Any]]) -> Results:
    """Results by name, without what this version does not know."""
    return {result["name"]: result for result in results if result["name"] in BY_NAME}


def judge(name: str, result: Mapping[str, Any], control: Mapping[str, Any]) -> Attempt:
    """Put the child's and the control's results side by side."""
    return Attempt(
        name=name,
        group=BY_NAME[name].group,
        mandatory=BY_NAME[name].mandatory,
        refused=not result["through"],
        control=bool(control.get("through")),
        errno=str(result["errno"]),
    )
