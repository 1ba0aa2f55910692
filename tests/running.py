"""Run the real `fluxctx` in a home of its own, as a person or a script would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSPHRASE = "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def envelope(self) -> dict[str, Any]:
        return dict(json.loads(self.text.splitlines()[-1]))

    @property
    def data(self) -> dict[str, Any]:
        assert self.code == 0, self.err or self.text
        return dict(self.envelope["data"])

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()[:-1]]


@dataclass(frozen=True, slots=True)
class Home:
    """A home and its passphrase file."""

    root: Path
    passphrase_file: Path
    work: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FLUXCTX_")}
        return kept | {
            "FLUXCTX_HOME": str(self.root),
            "FLUXCTX_PASSPHRASE_FILE": str(self.passphrase_file),
            "FLUXCTX_TESTING_KDF": "1",
            "PYTEST_CURRENT_TEST": os.environ.get("PYTEST_CURRENT_TEST", "shared fixture"),
        }

    def run(
        self,
        *arguments: str,
        env: Mapping[str, str | None] | None = None,
        stdin: bytes = b"",
        timeout: float = 240,
    ) -> Ran:
        """Run one command to its end, in the pipe that CI is."""
        environment = self.environment
        for name, value in (env or {}).items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        done = subprocess.run(
            [sys.executable, "-m", "fluxctx", *arguments],
            env=environment,
            cwd=self.work,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr.decode())

    def json(self, *arguments: str, **options: Any) -> Ran:
        return self.run(*arguments, "--json", **options)

    def init(self) -> None:
        done = self.run("init", "--accept-terms", "--no-timer", "--json")
        assert done.code == 0, done.text + done.err


def make_home(folder: Path) -> Home:
    """An empty home beside a passphrase file and a working directory."""
    work = folder / "work"
    work.mkdir(parents=True)
    secret = folder / "passphrase"
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o600)
    return Home(root=folder / "home", passphrase_file=secret, work=work)
