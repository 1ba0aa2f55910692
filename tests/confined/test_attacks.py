"""The seccomp floor alone against every attack: no other layer is there to help it."""

import errno
import os
import subprocess

import pytest

from fluxctx.confined.floor import ALLOWED
from fluxctx.confined.syscalls import NUMBERS, machine

DISTINCT_ERRNO = 999
ALL_BUT_SECCOMP = ("namespaces", "capabilities", "dumping", "limits", "landlock")


@pytest.fixture
def victim(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "a.txt").write_text("original")
    return tmp_path


@pytest.fixture
def bystander():
    """Another process of the same user, to be signalled, traced and limited."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        assert process.poll() is None
        process.kill()


def state(directory):
    return sorted(
        (p.name, p.lstat().st_size, p.lstat().st_mode, p.lstat().st_mtime_ns) for p in directory.iterdir()
    )


def attack(child, victim, bystander):
    child.ready()
    head = {
        "directory": str(victim),
        "file": str(victim / "a.txt"),
        "pid": os.getpid(),
        "target": bystander.pid,
    }
    child.channel.send("go", head)
    try:
        return child.channel.recv().head
    except EOFError:
        pytest.fail(f"the attacker died: {child.wait(5)}\n{child.stderr_tail()[-2000:]}")


def test_the_filter_itself_refuses_every_attack(start_kid, tell_apart, victim, bystander):
    before = state(victim)
    child = start_kid("kid_attacks", without=ALL_BUT_SECCOMP, prelude=tell_apart)
    results = attack(child, victim, bystander)
    assert len(results["attacks"]) > 170
    escaped = {
        name: result for name, result in results["attacks"].items() if result not in ("filter", "absent")
    }
    assert escaped == {"clone3": "kernel:ENOSYS"}  # its one answer that threads can live with
    assert set(results["allowed"].values()) == {"through"}
    assert state(victim) == before


def test_the_kernel_refuses_every_number_that_is_not_allowed(start_kid, tell_apart):
    """All 600: the answer to each is the filter's, not the kernel's."""
    here = machine()
    assert here is not None
    conditional = "open openat clone kill tgkill fcntl ioctl prctl arch_prctl prlimit64 sched_setaffinity"
    let_through = {*" ".join(ALLOWED.values()).split(), *conditional.split()}
    allowed = {number for name, number in NUMBERS[here].items() if name in let_through}
    # x86-64 since Linux 6.14: uretprobe and uprobe pass every filter, and are SIGILL outside their trampoline
    unfiltered = {335, 336} if here == "x86_64" else set()
    numbers = [number for number in range(600) if number not in allowed | unfiltered]
    child = start_kid("kid_every", without=ALL_BUT_SECCOMP, prelude=tell_apart)
    child.ready()
    child.channel.send("go", {"numbers": numbers})
    answers = dict(zip(numbers, child.channel.recv().head["answers"], strict=True))
    clone3 = NUMBERS[here]["clone3"]
    assert answers.pop(clone3) == errno.ENOSYS
    assert set(answers.values()) == {DISTINCT_ERRNO}
    assert len(answers) > 450


def test_the_attacks_are_real_because_without_the_filter_many_get_through(start_kid, victim, bystander):
    """Only what is harmless: the attacker keeps every other layer, with Landlock open for its victim."""
    child = start_kid("kid_attacks", without=("seccomp", "limits"), prelude=READ_ONLY_ATTACKS)
    results = attack(child, victim, bystander)["attacks"]
    through = {name for name, result in results.items() if result == "through"}
    assert {"memfd_create", "fork", "socketpair", "clone as fork", "pidfd_open", "socket AF_UNIX"} <= through
    assert "filter" not in results.values()


# With no filter, run the part of the table that leaves nothing behind on the machine that runs this test.
READ_ONLY_ATTACKS = """
import kid_attacks
every = kid_attacks.attacks
harmless = {"memfd_create", "fork", "socketpair", "clone as fork", "pidfd_open", "socket AF_UNIX", "flock",
            "socket AF_INET", "openat O_WRONLY", "inotify_init1", "kcmp"}
kid_attacks.attacks = lambda *words: {name: call for name, call in every(*words).items() if name in harmless}
sandbox.restrict_files = lambda grants: 0
"""
