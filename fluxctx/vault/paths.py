"""Where one vault lies, and which files belong to an item."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultPaths:
    """`data` may be copied and backed up: without `state`, which holds the keys, it opens nothing."""

    data: Path
    state: Path

    @property
    def header(self) -> Path:
        return self.data / "vault.json"

    @property
    def index(self) -> Path:
        return self.data / "index.db"

    @property
    def keys(self) -> Path:
        return self.state / "keys"

    @property
    def clock(self) -> Path:
        return self.state / "clock"

    def shard(self, item_id: bytes) -> Path:
        return self.data / "blobs" / item_id.hex()[:2]

    def blob(self, item_id: bytes, part: str) -> Path:
        return self.shard(item_id) / f"{item_id.hex()}.{part}"

    def blobs_of(self, item_id: bytes) -> Iterator[os.DirEntry[str]]:
        """Every file of an item, finished or not, found by its name."""
        wanted = item_id.hex() + "."
        try:
            with os.scandir(self.shard(item_id)) as entries:
                yield from (entry for entry in entries if entry.name.startswith(wanted))
        except FileNotFoundError:
            return

    def every_blob(self) -> Iterator[tuple[bytes, os.DirEntry[str]]]:
        """Every file under blobs/ that is named like one, with its item's id."""
        root = self.data / "blobs"
        for shard in sorted(root.iterdir()) if root.is_dir() else []:
            with os.scandir(shard) as entries:
                for entry in entries:
                    name = entry.name.partition(".")[0]
                    if len(name) == 32 and all(c in "0123456789abcdef" for c in name):
                        yield bytes.fromhex(name), entry
