"""Each layer by itself, each step's refusal, and their order."""

import os
import socket
import sys
from pathlib import Path

import pytest

from fluxctx.confined import grants as granting
from fluxctx.confined import kernel, landlock
from fluxctx.confined.grants import Grants, interpreter_paths, readable_paths, writable_paths
from fluxctx.confined.layers import Layers
from fluxctx.confined.listeners import listen
from fluxctx.errors import ConfinementUnavailable

ALL = (
    "parent",
    "descriptors",
    "threads",
    "limits",
    "cmdline",
    "namespaces",
    "capabilities",
    "dumping",
    "privileges",
    "landlock",
    "seccomp",
)


def only(*layers):
    """Without everything else (no_new_privs stays: an unprivileged process needs it for the other two)."""
    return tuple(layer for layer in ALL if layer not in (*layers, "privileges"))


def facts(child, *paths):
    child.ready()
    child.channel.send("go", {"paths": [str(path) for path in paths]})
    return child.channel.recv().head


@pytest.fixture
def needs_landlock():
    if landlock.abi() < 1:
        pytest.skip("this kernel has no Landlock")


# --- one layer at a time ------------------------------------------------------------------------------


@pytest.fixture
def two_places(tmp_path):
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "inside" / "out").symlink_to(tmp_path / "outside" / "file")
    return tmp_path / "inside", tmp_path / "outside"


def test_landlock_alone_leaves_nothing_but_reading_what_was_granted(start_kid, needs_landlock, two_places):
    inside, outside = two_places
    child = start_kid("kid_landlock", without=only("landlock"), grants=Grants(read=(str(inside),)))
    version = child.ready().landlock_abi
    with listen() as listeners:
        head = {"inside": str(inside), "outside": str(outside), **listeners.targets()}
        child.channel.send("go", head)
        results = child.channel.recv().head
    through = {name for name, result in results.items() if result == "through"}
    expected = {"read inside", "list inside", "stat outside"}
    if version < 3:
        expected.add("truncate inside")
    if version < 4:
        expected.add("connect TCP")
    if version < 6:
        expected |= {"connect abstract", "signal the parent"}
    assert through == expected
    assert (outside / "file").read_text() == "outside"
    assert sorted(path.name for path in inside.iterdir()) == ["file", "out"]


def test_a_granted_file_opens_itself_and_not_its_neighbours(start_kid, needs_landlock, two_places):
    inside, _ = two_places
    (inside / "neighbour").write_text("n")
    child = start_kid("kid_facts", grants=Grants(read=(str(inside / "file"),)))
    found = facts(child, inside / "file", inside / "neighbour")["readable"]
    assert found == {str(inside / "file"): "yes", str(inside / "neighbour"): "Permission denied"}


def test_a_grant_that_does_not_exist_opens_nothing(start_kid, needs_landlock, tmp_path):
    child = start_kid("kid_facts", grants=Grants(read=(str(tmp_path / "nowhere"),)))
    assert facts(child, tmp_path)["readable"] == {str(tmp_path): "Permission denied"}


def test_the_namespaces_alone_cut_off_the_network(start_kid):
    child = start_kid("kid_reach", without=only("namespaces"))
    if not child.ready().userns:
        pytest.skip("this kernel gives an ordinary process no user namespace")
    with listen() as listeners:
        child.channel.send("probe", listeners.targets())
        results = {result["name"]: result["through"] for result in child.channel.recv().head["attempts"]}
        assert listeners.reached() <= {"unix"}  # a socket file is reached through the file system
    assert not results["connect over TCP, IPv4"]
    assert not results["send over UDP"]
    assert not results["connect to an abstract socket"]
    assert not results["share the machine's network namespace"]
    assert results["open a file for writing"]  # and that is all it does


def test_the_namespaces_bring_no_capability_along(start_kid):
    child = start_kid("kid_facts", without=("seccomp", "landlock"))
    assert facts(child)["capabilities"] == 0


def test_with_every_layer_the_process_is_what_the_specification_says(start_kid):
    child = start_kid("kid_facts")
    found = facts(child, "/etc/passwd", "/root", "/home", "/proc/self/environ", "/tmp", "/dev/null")
    assert found["core"] == [0, 0]
    assert found["fsize"] == [0, 0]
    assert found["dumpable"] == 0
    assert found["no_new_privs"] == 1
    assert found["capabilities"] == 0
    assert found["fds"] == [0, 1, 2, found["channel_fd"]]
    assert found["cwd"] == "/"
    assert found["sid"] == found["pid"]
    assert found["heavy"] == []
    layers = child.ready()
    assert layers.seccomp
    assert layers.caps_dropped
    assert layers.no_new_privs
    assert layers.undumpable
    assert layers.enforced
    if layers.landlock_abi:
        assert {path: answer for path, answer in found["readable"].items() if answer == "yes"} == {
            "/dev/null": "yes"
        }


# --- what must hold, and does not ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prelude", "step"),
    [
        ("import os; os.open('/dev/null', os.O_WRONLY)", "check descriptors"),
        ("import os; os.dup2(os.open('/etc/passwd', os.O_RDONLY), 0)", "check descriptors"),
        ("import os; os.dup2(os.open('/dev/full', os.O_RDONLY), 0)", "check descriptors"),
        ("import os; os.dup2(os.open('/dev/null', os.O_WRONLY), 1)", "check descriptors"),
        ("import os; os.dup2(os.open('/dev/null', os.O_WRONLY), 2)", "check descriptors"),
        ("import socket; kept = socket.socketpair()", "check descriptors"),
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            "be single",
        ),
        (
            "sandbox.kernel.drop_capabilities = lambda: None; sandbox.kernel.capabilities = lambda: 1",
            "drop cap",
        ),
        ("sandbox.machine = lambda: None", "seccomp"),
        (
            "sandbox.kernel.install_filter = lambda program: (_ for _ in ()).throw(OSError(22, 'x'))",
            "seccomp",
        ),
        (
            "sandbox.landlock.restrict = lambda *a, **k: (_ for _ in ()).throw(OSError(7, 'x'))",
            "restrict files",
        ),
        ("sandbox.kernel.prctl = lambda *a: (_ for _ in ()).throw(OSError(1, 'x'))", "die with the parent"),
    ],
)
def test_a_step_that_fails_stops_the_child_before_it_imports_anything(start_kid, prelude, step):
    child = start_kid("kid_idle", prelude=prelude)
    with pytest.raises(ConfinementUnavailable) as caught:
        child.ready()
    assert str(caught.value.details["step"]).startswith(step)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    assert child.wait(10) == 3
    assert child.layers is None


@pytest.mark.parametrize("call", [4, 38])
def test_a_refused_prctl_stops_the_child(start_kid, call):
    prelude = (
        "real = sandbox.kernel.prctl\n"
        "def fail(option, *rest):\n"
        f"    if option == {call}: raise OSError(1, 'x')\n"
        "    return real(option, *rest)\n"
        "sandbox.kernel.prctl = fail"
    )
    with pytest.raises(ConfinementUnavailable):
        start_kid("kid_idle", prelude=prelude).ready()


def test_a_filter_that_misses_a_thread_is_not_a_filter(monkeypatch):
    """With TSYNC the kernel answers a failure with a positive thread id and errno 0."""
    monkeypatch.setattr(kernel, "syscall", lambda *words: 4711)
    with pytest.raises(OSError, match="thread"):
        kernel.install_filter([])


def test_without_landlock_the_floor_holds_and_the_report_says_what_is_missing(start_kid):
    layers = start_kid("kid_idle", prelude="sandbox.landlock.abi = lambda: 0").ready()
    assert layers.enforced
    assert layers.landlock_abi == 0
    assert "landlock" in layers.missing()


def test_without_namespaces_the_floor_holds_and_the_report_says_what_is_missing(start_kid):
    prelude = (
        "real = sandbox.kernel.syscall\n"
        "def fail(name, *rest):\n"
        "    if name == 'unshare': raise OSError(1, 'x')\n"
        "    return real(name, *rest)\n"
        "sandbox.kernel.syscall = fail"
    )
    layers = start_kid("kid_idle", prelude=prelude).ready()
    assert layers.enforced
    assert not layers.userns
    assert "namespaces" in layers.missing()


def test_a_device_needs_landlock_with_ioctl(start_kid):
    child = start_kid("kid_idle", prelude="sandbox.landlock.abi = lambda: 4", grants=Grants(devices="cuda"))
    with pytest.raises(ConfinementUnavailable):
        child.ready()


def test_landlock_asked_for_after_the_floor_is_silently_absent(start_kid):
    """Why the order is what it is: the next kernel call says 0 instead of failing loudly."""
    prelude = (
        "late = {}\n"
        "floor_first = sandbox.set_floor\n"
        "sandbox.restrict_files = lambda grants: (floor_first(grants), sandbox.landlock.abi())[1]\n"
        "sandbox.set_floor = lambda grants: None"
    )
    assert start_kid("kid_idle", prelude=prelude).ready().landlock_abi == 0


def test_the_steps_run_in_the_order_of_the_specification(start_kid):
    names = [
        "die_with_parent",
        "check_descriptors",
        "check_single_thread",
        "limit_resources",
        "empty_command_line",
        "own_namespaces",
        "drop_capabilities",
        "forbid_dumping",
        "forbid_new_privileges",
        "restrict_files",
        "set_floor",
    ]
    prelude = (
        "import sys\n"
        "def note(name):\n"
        "    real = getattr(sandbox, name)\n"
        "    setattr(sandbox, name, lambda *words, **more: (print('step', name), real(*words, **more))[1])\n"
        f"for name in {names!r}: note(name)"
    )
    child = start_kid("kid_facts", prelude=prelude)
    facts(child)
    child.wait(10)
    steps = [line.split()[1] for line in child.stderr_tail().splitlines() if line.startswith("step ")]
    assert steps == names


# --- what is granted ----------------------------------------------------------------------------------


def test_the_interpreter_is_granted_without_the_home_it_may_lie_in(monkeypatch):
    monkeypatch.setattr(sys, "prefix", "/home/someone")
    monkeypatch.setattr(sys, "path", ["", "relative", "/", "/somewhere/site-packages"])
    paths = interpreter_paths()
    assert "/home/someone" not in paths
    assert "/home/someone/lib" in paths
    assert "/somewhere/site-packages" in paths
    assert "/" not in paths
    assert all(Path(path).is_absolute() for path in paths)


def test_this_packages_source_is_granted_even_when_it_is_installed_in_place():
    assert str(Path(granting.__file__).parent.parent) in interpreter_paths()


def test_nothing_private_is_granted_by_default():
    private = [
        Path.home(),
        Path("/home"),
        Path("/tmp"),
        Path("/var"),
        Path("/etc"),
        Path("/proc"),
        Path("/dev"),
    ]
    granted = [Path(path) for path in readable_paths(Grants())]
    for path in private:
        assert path not in granted
        assert all(parent not in granted for parent in path.parents)
    assert writable_paths(Grants()) == []


def test_a_gpu_opens_its_devices_and_its_own_thread_names_for_writing():
    paths = writable_paths(Grants(devices="cuda"))
    assert "/proc/self/task" in paths
    assert all(path.startswith(("/proc/self/task", "/dev/nvidia")) for path in paths)


def test_layers_of_another_platform_miss_nothing_that_is_linux_only():
    assert Layers(platform="darwin", seatbelt=True).missing() == ()
    assert Layers(platform="darwin", seatbelt=True).enforced
    assert not Layers(platform="darwin").enforced


def test_a_system_call_that_the_architecture_lacks_is_reported_as_such():
    with pytest.raises(OSError, match="not implemented"):
        kernel.syscall("no_such_call")


def test_raw_calls_report_the_kernels_errno():
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.syscall("close", 10_000)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert kernel.syscall("getpid") == os.getpid()
