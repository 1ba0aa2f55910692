"""What a model's files hash to: fully, in parallel, and cheaply on every load."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fluxctx.engine.weights import raw_header
from fluxctx.errors import ModelRefused

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One file as it was when the model was added: `sha256` of all its bytes, and what a quick look can see.

    `header_sha256` covers a safetensors header; for any other file it equals `sha256`.
    `mtime_ns` is 0 where it means nothing (files unpacked by an installer).
    """

    path: str  # relative, with forward slashes
    size_bytes: int
    sha256: str
    header_sha256: str
    mtime_ns: int = 0


def record_files(directory: Path, paths: Iterable[str], *, threads: int = 4) -> list[FileRecord]:
    """Hash every byte of these files; hashlib releases the interpreter lock, so threads scale."""

    def record(path: str) -> FileRecord:
        file = directory / path
        status = file.stat()
        sha256 = sha256_file(file)
        header = header_sha256(file) if file.suffix == ".safetensors" else sha256
        return FileRecord(
            path=path,
            size_bytes=status.st_size,
            sha256=sha256,
            header_sha256=header,
            mtime_ns=status.st_mtime_ns,
        )

    with ThreadPoolExecutor(max_workers=threads) as pool:
        return list(pool.map(record, sorted(paths)))


def altered_fully(directory: Path, records: Iterable[FileRecord], *, threads: int = 4) -> list[str]:
    """Return the recorded files whose bytes differ now, missing ones included, in order."""

    def differs(record: FileRecord) -> bool:
        try:
            return sha256_file(directory / record.path) != record.sha256
        except OSError:
            return True

    known = list(records)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        return [record.path for record, bad in zip(known, pool.map(differs, known), strict=True) if bad]


def altered_at_a_glance(directory: Path, records: Iterable[FileRecord]) -> list[str]:
    """Return the recorded files whose size, modification time or header differs now.

    Small files are read whole.  A weights file altered behind its header with its time set back passes
    here and is caught by `altered_fully`: that is what `--strict` and `models verify` are for.
    """
    return [record.path for record in records if _differs_at_a_glance(directory, record)]


def tree_sha256(records: Iterable[FileRecord]) -> str:
    """The model's one digest: SHA-256 of the sorted lines that `sha256sum` prints for its files."""
    lines = sorted(f"{record.sha256}  {record.path}\n" for record in records)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of all bytes, hex."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type,unused-ignore]


def header_sha256(path: Path) -> str:
    """SHA-256 of a safetensors header, hex; raises ModelRefused where there is none."""
    header, _ = raw_header(path)
    return hashlib.sha256(header).hexdigest()


def as_json(records: Iterable[FileRecord]) -> list[dict[str, str | int]]:
    """Records for the registry file."""
    return [
        {
            "path": r.path,
            "size_bytes": r.size_bytes,
            "sha256": r.sha256,
            "header_sha256": r.header_sha256,
            "mtime_ns": r.mtime_ns,
        }
        for r in records
    ]


def from_json(rows: Iterable[Mapping[str, str | int]]) -> tuple[FileRecord, ...]:
    """Records from the registry file; raises KeyError and TypeError where it is damaged."""
    return tuple(
        FileRecord(
            path=str(row["path"]),
            size_bytes=int(row["size_bytes"]),
            sha256=str(row["sha256"]),
            header_sha256=str(row["header_sha256"]),
            mtime_ns=int(row["mtime_ns"]),
        )
        for row in rows
    )


def _differs_at_a_glance(directory: Path, record: FileRecord) -> bool:
    file = directory / record.path
    try:
        status = file.stat()
        if status.st_size != record.size_bytes:
            return True
        if record.mtime_ns and status.st_mtime_ns == record.mtime_ns and status.st_size > BLOCK_BYTES:
            return file.suffix == ".safetensors" and header_sha256(file) != record.header_sha256
        if record.mtime_ns and status.st_size > BLOCK_BYTES and file.suffix == ".safetensors":
            return True  # touched since: only a full verify may accept it again
        return sha256_file(file) != record.sha256
    except (OSError, ModelRefused):
        return True
