"""docs/spec/confinement-v1.md says what the code does."""

import inspect
import re
from pathlib import Path

import fluxctx
from fluxctx.confined import attempts, floor, grants, sandbox, spawn, wire

SPEC = (Path(fluxctx.__file__).parent.parent / "docs" / "spec" / "confinement-v1.md").read_text()


def section(title: str) -> str:
    """The text from a heading to the next one."""
    start = SPEC.index(title)
    end = SPEC.find("\n#", start + 1)
    return SPEC[start : end if end > 0 else None]


def table(text: str) -> dict[str, str]:
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")][2:]
    return {row[0].strip(): row[1].strip() for row in rows}


def test_the_allowed_calls_are_those_of_the_specification():
    told = {reason: calls.split(", ") for reason, calls in table(section("### 4.1")).items()}
    assert told == {reason: calls.split() for reason, calls in floor.ALLOWED.items()}


def test_the_refused_calls_are_those_of_the_specification():
    told = {reason: calls.split(", ") for reason, calls in table(section("### 4.3")).items()}
    assert told == {reason: calls.split() for reason, calls in floor.REFUSED.items()}


def test_the_calls_allowed_by_argument_are_those_of_the_specification():
    told = " ".join(table(section("### 4.2"))).replace(",", " ").replace("(x86-64)", " ").split()
    rules = floor._rules(1, "none", floor.Answers())
    named = {*" ".join(floor.ALLOWED.values()).split(), *" ".join(floor.REFUSED.values()).split()}
    assert sorted(told) == sorted(name for name, _ in rules if name not in named)


def test_the_counts_of_arguments_are_those_of_the_specification():
    told = table(section("### 4.2"))
    assert len(told["fcntl"].split(",")) == len(floor.FCNTL_COMMANDS)
    assert len(told["ioctl"].split(",")) == len(floor.IOCTL_COMMANDS)
    assert len(told["prctl"].split(",")) == len(floor.PRCTL_GETTERS) + 1
    assert len(told["arch_prctl (x86-64)"].split(",")) == len(floor.ARCH_PRCTL)


def test_the_granted_paths_are_named_in_the_specification():
    text = section("## 5.").replace("{cpu,node}", "cpu /sys/devices/system/node")
    for path in (*grants.SYSTEM_LIBRARIES, *grants.MACHINE_FACTS):
        assert re.search(rf"{re.escape(path)}[`, \n]", text), path
    text = section("## 6.")
    for path in (*grants.CUDA_READ, *grants.CUDA_WRITE):
        assert f"`{path}`" in text, path


def test_the_steps_are_as_many_as_the_specification_says():
    source = inspect.getsource(sandbox.confine)
    steps = re.findall(r"^    (?:\w+ = )?(\w+)\((?:grants|parent_pid|channel_fd|)\)$", source, re.MULTILINE)
    assert len(table(section("## 3."))) == len(steps) == 11


def test_the_limits_of_a_frame_are_those_of_the_specification():
    text = section("## 7.")
    assert wire.MAGIC.decode() in text
    assert wire.MAX_HEAD_BYTES == 1 << 20
    assert "at most 1 MiB" in text
    assert wire.MAX_BLOB_BYTES == 1 << 30
    assert "at most 1 GiB" in text
    assert spawn.STDERR_TAIL_BYTES == 64 << 10
    assert "64 KiB" in section("## 2.")


def test_every_attempt_belongs_to_a_group_and_has_a_lower_case_name():
    for name, way in attempts.BY_NAME.items():
        assert way.group in {"network", "write", "process", "read", "state"}
        assert name[0].islower()
        assert not name.endswith(".")
