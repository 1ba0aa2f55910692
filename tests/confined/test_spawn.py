"""A child starts clean, says what holds, and never outlives its parent."""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fluxctx.confined import spawn as spawning
from fluxctx.confined.spawn import ENVIRONMENT, Grants, child_command, protect_parent, spawn
from fluxctx.errors import ConfinementUnavailable, EngineFailed, TimedOut

SECRET = "a red apple under a secret tree"


def facts(child):
    child.ready()
    child.channel.send("go", {})
    return child.channel.recv().head


# --- what the child has -------------------------------------------------------------------------------


def test_the_child_answers_over_its_channel(start_kid):
    child = start_kid("kid_idle")
    assert child.layers is None
    layers = child.ready()
    assert child.layers is layers is child.ready()
    blob = os.urandom(3 << 20)
    child.channel.send("echo", {"n": 1}, blob)
    assert child.channel.recv() == ("echo", {"n": 1}, blob)
    assert child.poll() is None


def test_nothing_of_the_users_environment_reaches_the_child(start_kid, monkeypatch):
    for name in (
        "HOME",
        "FLUXCTX_PASSPHRASE",
        "HTTPS_PROXY",
        "PYTHONPATH",
        "LD_PRELOAD_X",
        "SSH_AUTH_SOCK",
        "TMPDIR",
    ):
        monkeypatch.setenv(name, SECRET)
    found = facts(start_kid("kid_facts", env_extra={"EXTRA": "1"}, threads=3))["environment"]
    assert SECRET not in str(found)
    threads = {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    added_by_python = {"LC_CTYPE": "C.UTF-8"}
    assert {**added_by_python, **found} == {**ENVIRONMENT, **threads, "EXTRA": "1", **added_by_python}


def test_the_library_switches_that_keep_everything_offline_are_set():
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        assert ENVIRONMENT[name] == "1"
    assert ENVIRONMENT["ORT_DISABLE_TELEMETRY"] == "1"
    assert Path(ENVIRONMENT["TORCHINDUCTOR_CACHE_DIR"]).is_dir()


def test_the_command_line_holds_module_and_descriptor_only_and_then_nothing():
    """Until then everybody sees how the child was started; later it could rewrite what they see."""
    words = child_command("fluxctx.engine.worker", "5", Grants(read=("/srv/models/secret-name",)))
    assert words == [sys.executable, "-I", "-B", "-m", "fluxctx.confined.child", "fluxctx.engine.worker", "5"]
    with spawn("fluxctx.confined.attempts", grants=Grants(read=("/srv/models/secret-name",))) as child:
        if not child.ready().cmdline_empty:
            pytest.skip("this kernel was built without CONFIG_CHECKPOINT_RESTORE")
        assert Path(f"/proc/{child.pid}/cmdline").read_bytes() == b""


def test_a_child_cannot_put_words_back_onto_its_command_line(start_kid):
    child = start_kid("kid_rewrite")
    if not child.ready().cmdline_empty:
        pytest.skip("this kernel was built without CONFIG_CHECKPOINT_RESTORE")
    child.channel.send("go", {"words": SECRET})
    answer = child.channel.recv().head
    assert answer["where"] > 0
    assert answer["prctl"] == "EPERM"
    assert Path(f"/proc/{child.pid}/cmdline").read_bytes() == b""


def test_without_that_step_words_of_the_childs_are_public(start_kid):
    child = start_kid("kid_rewrite", without=("cmdline",))
    child.ready()
    child.channel.send("go", {"words": SECRET})
    assert child.channel.recv().head["where"] > 0
    assert SECRET.encode() in Path(f"/proc/{child.pid}/cmdline").read_bytes()


def test_no_descriptor_of_the_parent_is_inherited_even_when_it_is_inheritable(start_kid, tmp_path):
    with (tmp_path / "open").open("wb") as leak, socket.socket() as stream:
        os.set_inheritable(leak.fileno(), True)
        os.set_inheritable(stream.fileno(), True)
        found = facts(start_kid("kid_facts"))
    assert found["fds"] == [0, 1, 2, found["channel_fd"]]


def test_many_children_leak_nothing_into_the_parent():
    def descriptors():
        gc.collect()
        return sorted(path.name for path in Path("/proc/self/fd").iterdir())

    with spawn("fluxctx.confined.attempts", grants=Grants()) as child:
        child.ready()
    before, threads = descriptors(), threading.active_count()
    for _ in range(5):
        with spawn("fluxctx.confined.attempts", grants=Grants()) as child:
            child.ready()
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert descriptors() == before
    assert threading.active_count() <= threads


# --- what it prints -----------------------------------------------------------------------------------


def test_what_the_child_prints_stays_in_memory(start_kid, capfd):
    child = start_kid("kid_print")
    child.ready()
    child.channel.send("go", {"out": SECRET, "err": "and more"})
    child.channel.recv()
    assert child.wait(10) == 0
    assert SECRET in child.stderr_tail()
    assert "and more" in child.stderr_tail()
    assert capfd.readouterr() == ("", "")
    assert SECRET not in repr(child)
    assert SECRET not in repr(vars(child).keys())


def test_a_flood_of_output_is_drained_and_only_its_tail_is_kept(start_kid):
    child = start_kid("kid_print")
    child.ready()
    child.channel.send("go", {"out": "first", "err": "", "many": 200_000})
    child.channel.recv()
    assert child.wait(20) == 0
    tail = child.stderr_tail()
    assert len(tail) <= spawning.STDERR_TAIL_BYTES
    assert tail.rstrip().endswith("line 199999")
    assert "first" not in tail


def test_an_exception_in_the_child_ends_it_and_is_told_to_nobody_else(start_kid, capfd):
    child = start_kid("kid_print")
    child.ready()
    child.channel.send("go", {"out": "", "err": "", "fail": SECRET})
    with pytest.raises(EOFError):
        child.channel.recv()
    assert child.wait(10) == 1
    assert SECRET in child.stderr_tail()
    assert capfd.readouterr() == ("", "")


# --- how it ends --------------------------------------------------------------------------------------


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return gone(pid)


def test_leaving_the_context_kills_the_child_within_a_second(start_kid):
    with start_kid("kid_sleep") as child:
        child.ready()
        began = time.monotonic()
    assert time.monotonic() - began < 1
    assert child.poll() == -signal.SIGKILL
    child.kill()  # harmless afterwards
    child.close()


def test_a_child_whose_parent_closes_the_channel_ends_by_itself(start_kid):
    child = start_kid("kid_idle")
    child.ready()
    child.channel.close()
    assert child.wait(5) == 0


def test_waiting_has_an_end(start_kid):
    child = start_kid("kid_sleep")
    child.ready()
    with pytest.raises(TimedOut):
        child.wait(0.05)
    child.kill()
    assert child.wait(5) == -signal.SIGKILL


PARENT = """
import sys, time
from fluxctx.confined import spawn as spawning
spawning.child_command = lambda module, fd, grants: [sys.executable, "-I", "-B", "-c",
    f"import sys; sys.path.insert(0, {kids!r}); sys.argv = ['kid', 'kid_sleep', '{{fd}}'];"
    "from fluxctx.confined import child; child.run()"]
child = spawning.spawn("kid_sleep", grants=spawning.Grants())
child.ready()
print(child.channel.recv().head["pid"], flush=True)
time.sleep(60)
"""


@pytest.fixture
def parent_and_child():
    code = PARENT.format(kids=str(Path(__file__).parent / "kids"))
    with subprocess.Popen(
        [sys.executable, "-I", "-B", "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        yield parent, int(parent.stdout.readline())
        parent.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_the_child_dies_within_a_second_of_its_parent_however_that_ends(parent_and_child, how):
    parent, pid = parent_and_child
    assert not gone(pid)
    parent.send_signal(how)
    assert wait_until_gone(pid, 1.0)


def test_the_child_survives_the_thread_that_asked_for_it(start_kid):
    """PDEATHSIG fires when the spawning THREAD ends; the child's own tending thread is that thread."""
    children = []
    thread = threading.Thread(target=lambda: children.append(start_kid("kid_idle")))
    thread.start()
    thread.join()
    (child,) = children
    child.ready()
    time.sleep(0.3)
    child.channel.send("echo", {})
    assert child.channel.recv().kind == "echo"


@pytest.mark.parametrize("way", ["kid_x32", "kid_int80"])
def test_a_child_that_calls_by_another_architectures_numbers_is_killed(start_kid, way):
    if os.uname().machine != "x86_64":
        pytest.skip("only x86-64 has other ways into the kernel")
    child = start_kid(way)
    child.ready()
    # a kernel without 32-bit emulation answers int 0x80 with a fault of its own
    assert child.wait(5) in ((-signal.SIGSYS,) if way == "kid_x32" else (-signal.SIGSYS, -signal.SIGSEGV))
    with pytest.raises(EOFError):
        child.channel.recv()


# --- what goes wrong ----------------------------------------------------------------------------------


def test_a_child_that_cannot_be_imported_says_so_without_a_secret(start_kid):
    child = start_kid("no_such_module_anywhere")
    child.ready()  # it was confined before it tried
    assert child.wait(5) == 1


def test_a_child_that_dies_before_the_floor_is_an_engine_failure(start_kid):
    child = start_kid("kid_idle", prelude=f"print({SECRET!r}); import os; sys.stdout.flush(); os._exit(7)")
    with pytest.raises(EngineFailed) as caught:
        child.ready()
    assert SECRET not in str(caught.value) + caught.value.hint + str(caught.value.details)
    assert child.wait(5) == 7


def test_a_child_that_says_nothing_is_killed(start_kid):
    child = start_kid("kid_idle", prelude="import time; time.sleep(60)")
    with pytest.raises(TimedOut):
        child.ready(timeout_s=0.2)
    assert child.wait(5) == -signal.SIGKILL


def test_an_interpreter_that_is_not_there_is_reported(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(ConfinementUnavailable):
        spawn("fluxctx.confined.attempts", grants=Grants())


@pytest.mark.parametrize("platform", ["win32", "freebsd14", "cygwin"])
def test_a_platform_without_a_floor_starts_nothing(monkeypatch, platform):
    monkeypatch.setattr(spawning.sys, "platform", platform)
    with pytest.raises(ConfinementUnavailable) as caught:
        spawn("fluxctx.confined.attempts", grants=Grants())
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_an_architecture_without_a_table_starts_nothing(monkeypatch):
    monkeypatch.setattr(spawning, "machine", lambda: None)
    with pytest.raises(ConfinementUnavailable):
        spawn("fluxctx.confined.attempts", grants=Grants())


def test_there_is_no_way_to_ask_for_less():
    """No parameter, no environment variable, no argument of the child turns a layer off."""
    import inspect

    parameters = set(inspect.signature(spawn).parameters)
    assert parameters == {
        "module",
        "grants",
        "env_extra",
        "threads",
        "targets",
        "windows_administrator_accepts",
    }
    with spawn("fluxctx.confined.attempts", grants=Grants(), windows_administrator_accepts=True) as child:
        assert child.ready().enforced  # it changes nothing where there is a floor
    room = Path(spawning.__file__).parent
    for source in room.glob("*.py"):
        assert "os.environ" not in source.read_text(), source
        assert "getenv" not in source.read_text(), source


def test_a_protected_parent_leaves_no_core_and_is_not_dumpable(run_python):
    code = (
        "import resource; from fluxctx.confined import kernel; from fluxctx.confined.spawn import *;"
        "protect_parent();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), kernel.prctl(kernel.PR_GET_DUMPABLE));"
        "c = spawn('fluxctx.confined.attempts', grants=Grants()); print(c.ready().enforced); c.close()"
    )
    assert run_python(code).split("\n")[:2] == ["(0, 0) 0", "True"]
    assert callable(protect_parent)


def test_nothing_heavy_is_imported_to_spawn_a_child(run_python):
    code = (
        "import sys; import fluxctx.confined.spawn, fluxctx.confined.probe;"
        "print(sorted({'torch','numpy','PIL','diffusers','typer','rich','cryptography'} & set(sys.modules)))"
    )
    assert run_python(code).strip() == "[]"


def test_before_the_floor_only_the_standard_library_and_this_room_are_imported(run_python):
    code = (
        "import sys; before = set(sys.modules); import fluxctx.confined.child;"
        "names = {n.split('.')[0] for n in set(sys.modules) - before};"
        "print(sorted(names - set(sys.stdlib_module_names)));"
        "ours = [n for n in sys.modules if n.startswith('fluxctx.')];"
        "print(sorted(n for n in ours if not n.startswith('fluxctx.confined')))"
    )
    assert run_python(code).splitlines() == ["['fluxctx']", "['fluxctx.errors']"]
