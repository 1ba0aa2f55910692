"""Start-up beside `python -c "import typer"`: --version, --help, and `list` on 1,000 items with a key file.

python benchmarks/cli.py [--runs 5] [--items 1000]
"""

from __future__ import annotations

import argparse
import compileall
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fluxctx as fluxctx_package
from fluxctx.domain import ItemKind, NewItem
from fluxctx.vault import unlocking
from fluxctx.vault.paths import VaultPaths
from fluxctx.vault.store import open_vault


def seconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def stock(home: Path, key: bytes, count: int) -> None:
    """Seal many small items, in groups, as a long life with fluxctx would have left them."""
    (state,) = (home / "state" / "vaults").iterdir()
    paths = VaultPaths(data=home / "data" / "vaults" / state.name, state=state)
    now = datetime.now(UTC)
    new = NewItem(
        kind=ItemKind.IMAGE,
        mime="image/png",
        expires_at=now + timedelta(days=30),
        parts={"original": bytes(2000), "thumbnail": bytes(200)},
        metadata={"recipe": None, "tags": {}},
    )
    with open_vault(paths, unlocking.key_file(key), now=now) as vault:
        for start in range(0, count, 100):
            vault.put([new] * min(100, count - start), now=now)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--items", type=int, default=1000)
    asked = parser.parse_args()
    compileall.compile_dir(Path(fluxctx_package.__file__).parent, quiet=2)  # as pip does when it installs
    fluxctx = [str(Path(sys.executable).with_name("fluxctx"))]
    with tempfile.TemporaryDirectory() as folder:
        home, key_path, secret = Path(folder) / "home", Path(folder) / "key", Path(folder) / "passphrase"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
        environment = {**os.environ, "FLUXCTX_HOME": str(home), "FLUXCTX_PASSPHRASE_FILE": str(secret)}
        quiet = {"env": environment, "stdout": subprocess.DEVNULL, "check": True}
        subprocess.run([*fluxctx, "init", "--accept-terms", "--no-timer"], **quiet)
        subprocess.run([*fluxctx, "vault", "keyfile", str(key_path)], **quiet)
        stock(home, key_path.read_bytes(), asked.items)
        environment = {**environment, "FLUXCTX_KEYFILE": str(key_path)}
        del environment["FLUXCTX_PASSPHRASE_FILE"]
        commands = {
            "python -c 'import typer'": [sys.executable, "-c", "import typer"],
            "fluxctx --version": [*fluxctx, "--version"],
            "fluxctx --help": [*fluxctx, "--help"],
            f"fluxctx list ({asked.items} items, key file)": [*fluxctx, "list"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(asked.runs):
            for name, command in commands.items():
                times[name].append(seconds(command, environment))
    base = statistics.median(times["python -c 'import typer'"])
    print("| command | median ms | ratio |\n|---|---|---|")
    for name, found in times.items():
        print(f"| {name} | {statistics.median(found) * 1e3:.0f} | {statistics.median(found) / base:.2f} |")


main()
