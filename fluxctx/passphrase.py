"""Where a passphrase comes from, first that is given; never from the command line's own words."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from fluxctx.config import Config
from fluxctx.errors import UsageError, VaultLocked

Warn = Callable[[str, str], None]
LONGEST_BYTES = 1 << 20


class Passphrases:
    """The sources of interface.md, in their order."""

    def __init__(
        self, config: Config, *, file: str | None, fd: int | None, may_ask: bool, warn: Warn
    ) -> None:
        self._environment = config.environment
        self._warn = warn
        self._file, self._fd, self.may_ask = file, fd, may_ask

    def given(self) -> str | None:
        """The passphrase that a flag or variable gives; None where nobody gave one.

        Raises UsageError for a source that cannot be read.
        """
        environment = self._environment
        if self._file is not None:
            return self._read_file(self._file)
        if self._fd is not None:
            return read_descriptor(self._fd)
        if path := environment.get("FLUXCTX_PASSPHRASE_FILE"):
            return self._read_file(path)
        if number := environment.get("FLUXCTX_PASSPHRASE_FD"):
            if not number.isdigit():
                raise UsageError("FLUXCTX_PASSPHRASE_FD is not a number", hint="it names an open descriptor")
            return read_descriptor(int(number))
        if command := environment.get("FLUXCTX_PASSPHRASE_COMMAND"):
            return run_command(command)
        return environment.get("FLUXCTX_PASSPHRASE") or None

    def key_file(self) -> bytes | None:
        """The key file's bytes, if one is named."""
        path = self._environment.get("FLUXCTX_KEYFILE")
        if not path:
            return None
        try:
            return Path(path).read_bytes()[:LONGEST_BYTES]
        except OSError as error:
            raise UsageError("the key file cannot be read", hint="check FLUXCTX_KEYFILE") from error

    def require(self, *, confirm: bool = False) -> str:
        """The passphrase, asked on the terminal if need be; raises VaultLocked where nobody can be asked."""
        text = self.given()
        if text is not None:
            if not text:
                raise UsageError(
                    "the passphrase is empty", hint="a few random words are easy to keep and hard to guess"
                )
            return text
        if not self.may_ask:
            raise VaultLocked(
                "a passphrase is needed and none was given",
                hint="set FLUXCTX_PASSPHRASE_FILE to a file with mode 0600, or use --passphrase-fd",
            )
        import getpass

        text = getpass.getpass("passphrase: ")
        if confirm and getpass.getpass("the same again: ") != text:
            raise UsageError("the two passphrases differ", hint="nothing was made; try again")
        if not text:
            raise UsageError(
                "the passphrase is empty", hint="a few random words are easy to keep and hard to guess"
            )
        return text

    def require_new(self) -> str:
        """A new passphrase, from FLUXCTX_NEW_PASSPHRASE_FILE or asked twice; raises VaultLocked, UsageError."""
        path = self._environment.get("FLUXCTX_NEW_PASSPHRASE_FILE")
        if path:
            text = self._read_file(path)
        elif self.may_ask:
            import getpass

            text = getpass.getpass("new passphrase: ")
            if getpass.getpass("the same again: ") != text:
                raise UsageError("the two passphrases differ", hint="nothing was changed; try again")
        else:
            raise VaultLocked("a new passphrase is needed", hint="set FLUXCTX_NEW_PASSPHRASE_FILE, mode 0600")
        if not text:
            raise UsageError(
                "the new passphrase is empty", hint="nothing was changed; a few random words are easy to keep"
            )
        return text

    def _read_file(self, path: str) -> str:
        try:
            with Path(path).open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(LONGEST_BYTES)
        except OSError as error:
            raise UsageError("the passphrase file cannot be read", hint="check its path and mode") from error
        if stat.S_ISREG(mode) and mode & 0o077 and os.name == "posix":
            self._warn("passphrase_file_mode", "the passphrase file can be read by other users; chmod 600 it")
        return first_line(content)


def first_line(content: bytes) -> str:
    """The first line without its line ending; raises UsageError when it is not text."""
    try:
        return content[:LONGEST_BYTES].decode("utf-8").split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError as error:
        raise UsageError("the passphrase is not UTF-8 text", hint="save it as UTF-8") from error


def read_descriptor(fd: int) -> str:
    try:
        with os.fdopen(os.dup(fd), "rb") as file:
            return first_line(file.read(LONGEST_BYTES))
    except OSError as error:
        raise UsageError("the passphrase descriptor cannot be read", hint="is it open? try 3<FILE") from error


def run_command(command: str) -> str:
    """Run the user's own command, as restic does; it is split like a shell line but no shell runs."""
    import shlex

    try:
        done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, timeout=120, check=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise UsageError("the passphrase command failed", hint="run it by hand to see why") from error
    return first_line(done.stdout)
