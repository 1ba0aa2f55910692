"""Confined children whose work is a module of tests/confined/kids; a test may remove layers from them."""

import os
import shlex
import shutil
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import fluxctx
from fluxctx.confined import spawn as spawning
from fluxctx.confined.spawn import Grants, spawn

KIDS = Path(__file__).parent / "kids"
REPOSITORY = Path(fluxctx.__file__).parent.parent
NOBODY = 65534

# Code that a mutated child runs before anything else; production has no switch for any of it.
WITHOUT = {
    "parent": "sandbox.die_with_parent = lambda pid: None",
    "descriptors": "sandbox.check_descriptors = lambda fd: None",
    "threads": "sandbox.check_single_thread = lambda: None",
    "limits": "sandbox.limit_resources = lambda grants: None",
    "cmdline": "sandbox.empty_command_line = lambda: False",
    "namespaces": "sandbox.own_namespaces = lambda: False",
    "capabilities": "sandbox.drop_capabilities = lambda: None",
    "dumping": "sandbox.forbid_dumping = lambda: None",
    "privileges": "sandbox.forbid_new_privileges = lambda: None",
    "landlock": "sandbox.restrict_files = lambda grants: 0",
    "seccomp": "sandbox.set_floor = lambda grants: None",
}
DISTINCT_ERRNO = 999
# The filter's refusals carry an errno that no kernel gives, so that they are told from the kernel's.
TELL_APART = (
    "from fluxctx.confined import floor; make = floor.floor_program;"
    f"answers = floor.Answers(refused={DISTINCT_ERRNO}, unknown={DISTINCT_ERRNO}, ioctl={DISTINCT_ERRNO},"
    " clone3=38);"  # ENOSYS, else the C library starts no thread
    "sandbox.floor_program = lambda m, p, devices='none': make(m, p, devices=devices, answers=answers)"
)


@pytest.fixture
def tell_apart() -> str:
    """A prelude by which the filter's refusals carry errno 999."""
    return TELL_APART


def mutated_command(module: str, fd: int, prelude: str) -> list[str]:
    code = (
        f"import sys; sys.path.insert(0, {str(KIDS)!r}); sys.argv = ['kid', {module!r}, '{fd}']\n"
        f"from fluxctx.confined import child, sandbox\n{prelude}\nchild.run()"
    )
    return [sys.executable, "-I", "-B", "-c", code]


@pytest.fixture
def start_kid(monkeypatch):
    """start_kid(module, without=("landlock", ...), prelude="...", **spawn's arguments) -> Child."""
    with ExitStack() as stack:

        def start(module: str = "kid_idle", *, without=(), prelude="", grants=None, **arguments):
            code = "\n".join([*(WITHOUT[layer] for layer in without), prelude])
            with monkeypatch.context() as patch:
                patch.setattr(spawning, "child_command", lambda name, fd, _: mutated_command(name, fd, code))
                child = spawn(module, grants=grants or Grants(), **arguments)
            return stack.enter_context(child)

        yield start


def need(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"not run: {tool} is missing")
    return path


@pytest.fixture
def strace() -> str:
    return need("strace")


@pytest.fixture
def model() -> str:
    """The embedded starter model's directory, or the one beside the repository while there is none."""
    shared = [parent / "shared" / "starter" / "model64" for parent in REPOSITORY.parents]
    for directory in (*sorted(REPOSITORY.glob("fluxctx/engine/starter/*")), *shared):
        if (directory / "model_index.json").is_file():
            return str(directory)
    pytest.skip("not run: the starter model is missing")


@pytest.fixture
def as_nobody():
    """as_nobody(arguments) -> a command that runs this interpreter as uid 65534 (only root can ask)."""
    if os.getuid() != 0:
        pytest.skip("this is not root, so every other test here ran as an ordinary user already")
    setpriv, unshare = need("setpriv"), need("unshare")

    def command(arguments: list[str]) -> list[str]:
        needed = [*sys.path, sys.prefix, sys.base_prefix, str(REPOSITORY), str(KIDS)]
        drop = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        opened = open_closed_directories([path for path in dict.fromkeys(needed) if Path(path).is_dir()])
        script = f'{opened}\nexec "$@"'
        return [unshare, "--mount", "sh", "-ec", script, "sh", *drop, sys.executable, "-I", "-B", *arguments]

    return command


def open_closed_directories(needed: list[str]) -> str:
    """Shell lines that make `needed` reachable for everybody, in a mount namespace of their own."""
    closed: dict[str, list[str]] = {}
    for path in needed:
        for directory in reversed([Path(path), *Path(path).parents]):
            if not directory.stat().st_mode & stat.S_IXOTH:
                closed.setdefault(str(directory), []).append(path)
                break
    lines = []
    for directory, paths in closed.items():
        lines.append("hold=$(mktemp -d)")
        for number, path in enumerate(paths):
            lines.append(f"mkdir $hold/{number}; mount --rbind {shlex.quote(path)} $hold/{number}")
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(directory)}")
        for number, path in enumerate(paths):
            lines.append(f"mkdir -p {shlex.quote(path)}; mount --rbind $hold/{number} {shlex.quote(path)}")
    return "\n".join(lines)


@pytest.fixture
def run_python():
    """Run code in a fresh interpreter that is not confined; returns its output."""

    def run(code: str, *, command=None, timeout=60) -> str:
        words = command(["-c", code]) if command else [sys.executable, "-I", "-B", "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
