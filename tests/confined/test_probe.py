"""The probe sees: all refused with every layer, red without any one of them, blind is said to be blind."""

import json
import os
import sys
from pathlib import Path

import pytest

from fluxctx.confined import attempts, probe
from fluxctx.confined import spawn as spawning
from fluxctx.confined.grants import Grants
from fluxctx.confined.listeners import listen
from fluxctx.confined.probe import run_probe, spawn_probed
from fluxctx.errors import ConfinementUnavailable, EngineFailed

KIDS = Path(__file__).parent / "kids"
NETWORK = {name for name, way in attempts.BY_NAME.items() if way.group == "network"}


def mutated(module, fd, code):
    program = (
        f"import sys; sys.path.insert(0, {str(KIDS)!r}); sys.argv = ['kid', {module!r}, {fd!r}]\n"
        f"from fluxctx.confined import child, sandbox\n{code}\nchild.run()"
    )
    return [sys.executable, "-I", "-B", "-c", program]


def test_with_every_layer_nothing_gets_through_and_the_control_does():
    report = run_probe()
    assert report.kept
    assert not report.blind
    assert report.hits == ()
    assert len(report.control_hits) == report.listeners >= 4
    assert len(report.attempts) >= 25
    expected = (
        set() if report.layers.landlock_abi else {"read a file of the user", "list a directory of the user"}
    )
    expected |= set() if report.layers.userns else {"share the machine's network namespace"}
    assert set(report.through) <= expected | {"read the parent's memory through /proc"}
    assert {a.name for a in report.attempts if a.refused and not a.control} <= {
        "read the parent's memory through /proc",  # another process's memory may be closed to everybody
        "read the parent's memory by system call",
    }


# Layer taken away -> what of the probe must turn red for it, with all the other layers in place.
RED = {
    "seccomp": {"connect to a socket file", "make a memory file", "fork", "pass a descriptor over a socket"},
    "landlock": {"read a file of the user", "list a directory of the user"},
    "namespaces": {"share the machine's network namespace"},
    "limits": {"make a file grow"},
    "dumping": {"be dumped or traced"},
    "parent": {"outlive the parent"},
    "cmdline": {"show words on its own command line"},
}


@pytest.mark.parametrize("layer", RED)
def test_the_probe_turns_red_for_every_layer_that_is_taken_away(start_kid, layer):
    whole = run_probe()
    report = run_probe(start_kid("kid_reach", without=(layer,)))
    expected = RED[layer]
    if layer == "landlock" and not whole.layers.landlock_abi:
        pytest.skip("this kernel has no Landlock to take away")
    if layer == "namespaces" and not whole.layers.userns:
        pytest.skip("this kernel gives no namespaces to take away")
    assert expected <= set(report.through)
    assert not expected & set(whole.through)
    if layer in ("seccomp", "limits", "dumping", "parent"):
        assert not report.kept


def test_the_probe_turns_red_when_capabilities_are_kept(start_kid):
    report = run_probe(start_kid("kid_reach", without=("capabilities", "namespaces")))
    if os.getuid() != 0:
        pytest.skip("only root has capabilities to keep")
    assert "hold a capability" in report.through
    assert not report.kept


def test_the_probe_turns_red_when_privileges_may_be_gained(start_kid):
    if os.getuid() != 0:
        pytest.skip("without no_new_privs only root can set a filter at all")
    report = run_probe(
        start_kid("kid_reach", without=("privileges", "capabilities", "landlock", "namespaces"))
    )
    assert "gain privileges by a set-uid program" in report.through
    assert not report.kept


def test_without_any_layer_every_listener_is_reached(start_kid):
    everything = (*RED, "capabilities", "privileges", "descriptors", "threads")
    report = run_probe(start_kid("kid_reach", without=everything))
    assert set(report.hits) == set(report.control_hits)
    assert set(report.through) >= NETWORK
    assert not report.kept


def test_a_worker_is_probed_before_it_imports_what_it_is_for():
    worker, report = spawn_probed("fluxctx.confined.attempts", grants=Grants())
    with worker:
        assert report.kept
        assert len(report.attempts) == len(run_probe(worker).attempts)  # and serves afterwards
        assert worker.poll() is None


def test_a_worker_that_is_let_out_is_reported_by_its_own_probe(monkeypatch):
    code = "sandbox.set_floor = lambda grants: None"
    monkeypatch.setattr(spawning, "child_command", lambda module, fd, _: mutated(module, fd, code))
    worker, report = spawn_probed("kid_idle", grants=Grants())
    with worker:
        assert not report.kept
        assert "make a memory file" in report.through


def test_a_worker_that_cannot_be_confined_leaves_nothing_running(monkeypatch):
    code = "sandbox.machine = lambda: None"
    monkeypatch.setattr(spawning, "child_command", lambda module, fd, _: mutated(module, fd, code))
    with pytest.raises(ConfinementUnavailable):
        spawn_probed("kid_idle", grants=Grants())


def test_a_control_that_reaches_nothing_makes_the_probe_blind(monkeypatch):
    monkeypatch.setattr(
        probe,
        "start_control",
        lambda listeners: probe.spawn("fluxctx.confined.attempts", grants=probe.Grants()),
    )
    monkeypatch.setattr(probe, "ask", skip_start(probe.ask))
    report = run_probe()
    assert report.blind
    assert not report.kept


def skip_start(ask):
    """A confined control says "floor" before it answers; a real control says nothing."""

    def asked(child, targets):
        child.ready()
        return ask(child, targets)

    return asked


def test_a_child_that_dies_in_the_middle_is_an_error_not_a_pass(start_kid):
    child = start_kid("kid_reach", prelude="sandbox.set_floor = lambda g: None")
    child.ready()
    child.kill()
    child.wait(10)
    with pytest.raises(EngineFailed):
        run_probe(child)


def test_a_child_that_answers_something_else_is_an_error_not_a_pass(start_kid):
    with pytest.raises(EngineFailed):
        run_probe(start_kid("kid_idle"))


def test_a_forked_copy_left_by_an_attempt_is_not_left_behind():
    before = children()
    with listen() as listeners:
        results = {result["name"]: result for result in attempts.run(listeners.targets())}
    assert results["fork"]["through"]
    assert children() <= before  # another test's worker may still be here, and may end meanwhile


def children() -> set[str]:
    """The process ids of this process's children, from every thread."""
    lists = (task.joinpath("children").read_text() for task in Path("/proc/self/task").iterdir())
    return {pid for line in lists for pid in line.split()}


def test_the_report_for_the_ledger_holds_no_path_no_address_and_no_key():
    report = run_probe()
    text = json.dumps(report.to_json())
    assert "/tmp" not in text
    assert "fluxctx-probe" not in text
    assert json.loads(text)["kept"] is True


def test_the_scratch_directory_of_the_listeners_is_gone_afterwards():
    with listen() as listeners:
        directory = listeners.directory
        assert directory.exists()
    assert not directory.exists()


PROBE = """
import json
from fluxctx.confined.probe import run_probe
report = run_probe()
print(json.dumps(report.to_json() | {"uid": __import__("os").getuid()}))
"""


def test_an_ordinary_user_is_confined_as_well_as_root(as_nobody, run_python):
    report = json.loads(run_python(PROBE, command=as_nobody))
    assert report["uid"] == 65534
    assert report["kept"] is True
    assert report["hits"] == []


PROTECTED = """
import json
from fluxctx.confined.probe import run_probe
from fluxctx.confined.spawn import protect_parent
protect_parent()
report = run_probe()
closed = {a.name: (a.refused, a.control) for a in report.attempts if "parent's memory" in a.name}
print(json.dumps([report.kept, closed]))
"""


def test_a_protected_parent_is_closed_even_to_the_unconfined_of_the_same_user(as_nobody, run_python):
    kept, closed = json.loads(run_python(PROTECTED, command=as_nobody))
    assert kept
    assert len(closed) == 2
    assert set(map(tuple, closed.values())) == {(True, False)}
