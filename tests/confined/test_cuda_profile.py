"""The CUDA profile on a machine without a GPU: what the driver does is let through, and nothing beside it.

Unverified with a real GPU: benchmarks/gpu_checks.py is for the first machine that has one.
"""

import json
import os
import socket
from pathlib import Path

import pytest

from fluxctx.confined import landlock
from fluxctx.confined.grants import Grants

LET_THROUGH = {
    "name a thread",
    "name a new thread",
    "size a memory file",
    "bind an abstract socket",
    "read the driver's facts",
    "open a device",
}


@pytest.fixture
def results(start_kid, tmp_path):
    if landlock.abi() < 5:
        pytest.skip("this kernel has no Landlock with ioctl, so there is no CUDA profile")
    file = tmp_path / "file"
    file.write_text("x")
    device = "/dev/zero"  # stands in for /dev/nvidia0, which is opened for reading and writing alike
    prelude = (
        f"real = sandbox.writable_paths; sandbox.writable_paths = lambda grants: [*real(grants), {device!r}]"
    )
    child = start_kid("kid_cuda", grants=Grants(devices="cuda"), prelude=prelude)
    layers = child.ready()
    assert layers.devices == "cuda"
    child.channel.send("go", {"file": str(file), "device": device, "pid": os.getpid()})
    try:
        return {**child.channel.recv().head, "namespaces": layers.userns}
    except EOFError:
        pytest.fail(f"{child.wait(5)}\n{child.stderr_tail()[-2000:]}")


def test_what_the_driver_needs_is_let_through_and_nothing_else(results):
    through = {name for name, result in results.items() if result == "through"}
    assert through == LET_THROUGH


def test_the_refusals_come_from_the_layer_that_the_specification_names(results):
    for name in ("write a file", "read a file", "write /dev/null", "write a sysctl", "write core_pattern"):
        assert results[name] == "EACCES", name  # Landlock
    for name in ("create a file", "internet socket", "connect", "accept", "fork", "core limit"):
        assert results[name] == "EPERM", name  # seccomp


def test_an_abstract_socket_of_the_child_cannot_be_reached_from_outside(results):
    if not results["namespaces"]:
        pytest.skip("without a network namespace the socket is there, and accept() is refused")
    with socket.socket(socket.AF_UNIX) as stream, pytest.raises(OSError, match="refused"):
        stream.connect("\0cuda-uvmfd-test")


AS_NOBODY = """
import json, os, sys
from fluxctx.confined import spawn as spawning
spawning.child_command = lambda module, fd, grants: [sys.executable, "-I", "-B", "-c",
    f"import sys; sys.path.insert(0, {kids!r}); sys.argv = ['kid', {{module!r}}, '{{fd}}'];"
    "from fluxctx.confined import child, sandbox; real = sandbox.writable_paths;"
    "sandbox.writable_paths = lambda grants: [*real(grants), '/dev/zero']; child.run()"]
with spawning.spawn("kid_cuda", grants=spawning.Grants(devices="cuda")) as child:
    child.ready()
    child.channel.send("go", dict(file="/etc/hostname", device="/dev/zero", pid=os.getpid()))
    print(json.dumps(child.channel.recv().head))
"""


def test_an_ordinary_user_gets_the_same(as_nobody, run_python):
    if landlock.abi() < 5:
        pytest.skip("this kernel has no Landlock with ioctl, so there is no CUDA profile")
    kids = str(Path(__file__).parent / "kids")
    results = json.loads(run_python(AS_NOBODY.format(kids=kids), command=as_nobody))
    assert {name for name, result in results.items() if result == "through"} == LET_THROUGH
