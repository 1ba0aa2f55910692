"""Settings and places: flag > FLUXCTX_* > ./fluxctx.toml > user file > system file > default.

The only reader of the environment.  What the system file lists under `locked` cannot be changed below it.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from fluxctx.errors import InvalidRequest, UsageError

SYSTEM_FILE = Path("/etc/fluxctx/config.toml")
PROJECT_FILE = Path("fluxctx.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: its key in the files, its variable, its default and what it means."""

    key: str
    default: Any
    meaning: str

    @property
    def variable(self) -> str:
        return "FLUXCTX_" + self.key.upper().replace(".", "_")


SETTINGS: tuple[Setting, ...] = (
    Setting(key="account", default="default", meaning="the account that commands act for"),
    Setting(key="model", default="starter", meaning="the model when `--model` is not given"),
    Setting(key="retention", default="30d", meaning="how long outputs live when `--retain` is not given"),
    Setting(key="policy", default="local", meaning="the policy profile: local, hosted, payments or strict"),
    Setting(key="device", default="auto", meaning="the device: auto, cpu, cuda, mps or xpu"),
    Setting(key="dtype", default="auto", meaning="the weights' number format: auto, float32 or bfloat16"),
    Setting(
        key="threads",
        default=0,
        meaning="CPU threads of the worker; 0 is all of them; changes pixels' last bits",
    ),
    Setting(key="timeout", default="0s", meaning="the longest a request may take; 0s is no limit"),
    Setting(key="contact", default="", meaning="whom to ask about data handling on this installation"),
)

# Variables that are not settings: secrets' sources, places and switches.  docs/reference/environment.md lists all.
OTHER_VARIABLES: Mapping[str, str] = {
    "FLUXCTX_HOME": "one directory for data, state, config and run instead of the platform's places",
    "FLUXCTX_PASSPHRASE_FILE": "a file whose first line is the passphrase",
    "FLUXCTX_NEW_PASSPHRASE_FILE": "`vault passwd`: a file whose first line is the new passphrase",
    "FLUXCTX_PASSPHRASE_FD": "an open descriptor to read the passphrase from",
    "FLUXCTX_PASSPHRASE_COMMAND": "a command that prints the passphrase",
    "FLUXCTX_PASSPHRASE": "the passphrase itself; other processes of the same user can see it",
    "FLUXCTX_KEYFILE": "a key file made by `fluxctx vault keyfile`; opens the vault without the passphrase's wait",
    "FLUXCTX_ACCEPT_TERMS": "1 accepts the acceptable-use terms when a script makes the first account",
    "FLUXCTX_TESTING_KDF": "1 makes weak, fast test vaults; honoured only while pytest runs",
    "NO_COLOR": "no colours",
    "EDITOR": "the editor that `--edit-prompt` opens on a memory file",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things live; every directory is made 0700 when it is first written to."""

    data: Path
    state: Path
    config: Path
    run: Path

    @property
    def models(self) -> Path:
        return self.data / "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A setting's value and where it comes from."""

    value: Any
    origin: str
    locked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What this process was told, read once."""

    places: Places
    values: Mapping[str, Value]
    environment: Mapping[str, str] = field(repr=False)

    def get(self, key: str) -> Any:
        return self.values[key].value

    def duration(self, key: str) -> timedelta:
        return parse_duration(str(self.get(key)))

    def switch(self, variable: str) -> bool:
        """True when the variable is set to something that means yes."""
        return self.environment.get(variable, "").lower() in {"1", "true", "yes", "on"}


def load_config(flags: Mapping[str, Any] | None = None, *, home: str | None = None) -> Config:
    """Read every source once.

    Raises UsageError for an unknown key, a malformed file, or a flag that contradicts a locked value.
    """
    environment = dict(os.environ)
    places = find_places(environment, home)
    system = read_file(SYSTEM_FILE)
    locked = set(system.pop("locked", []))
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("flag", {k: v for k, v in (flags or {}).items() if v is not None}),
        ("environment", {s.key: environment[s.variable] for s in SETTINGS if environment.get(s.variable)}),
        (str(PROJECT_FILE), read_file(PROJECT_FILE)),
        (str(places.config / "config.toml"), read_file(places.config / "config.toml")),
        (str(SYSTEM_FILE), system),
    ]
    values = {setting.key: resolve(setting, layers, locked) for setting in SETTINGS}
    return Config(places=places, values=values, environment=environment)


def resolve(setting: Setting, layers: list[tuple[str, Mapping[str, Any]]], locked: set[str]) -> Value:
    """First layer that speaks wins, unless the system file locked the key."""
    if setting.key in locked:
        origin, system = layers[-1]
        return Value(value=system.get(setting.key, setting.default), origin=origin, locked=True)
    for origin, layer in layers:
        if setting.key in layer:
            return Value(value=layer[setting.key], origin=origin)
    return Value(value=setting.default, origin="default")


def read_file(path: Path) -> dict[str, Any]:
    """Read one TOML file; a missing one is empty; unknown keys are errors, since a typo must not weaken anything."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise UsageError(f"cannot read {path.name}", hint="check the file's mode") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path.name} is not valid TOML: {error}", hint="see docs/reference/settings.md"
        ) from error
    known = {setting.key for setting in SETTINGS} | {"locked"}
    for key in content:
        if key not in known:
            raise UsageError(f"{path.name} has an unknown key: {key}", hint="see docs/reference/settings.md")
    return content


def find_places(environment: Mapping[str, str], home: str | None) -> Places:
    """FLUXCTX_HOME's four folders, else the platform's own."""
    root = home or environment.get("FLUXCTX_HOME")
    if root:
        base = Path(root).expanduser().absolute()
        return Places(data=base / "data", state=base / "state", config=base / "config", run=base / "run")
    import platformdirs  # 30 ms, only where no home is named

    found = [
        Path(get("fluxctx", appauthor=False))
        for get in (platformdirs.user_data_dir, platformdirs.user_state_dir, platformdirs.user_config_dir)
    ]
    runtime = environment.get("XDG_RUNTIME_DIR")
    found.append(Path(runtime) / "fluxctx" if runtime else found[1] / "run")
    names = ("data", "state", "config", "run")
    if len(set(found)) < len(found):  # macOS and Windows, where some coincide
        found = [path / name for path, name in zip(found, names, strict=True)]
    return Places(**dict(zip(names, found, strict=True)))


DURATION = re.compile(r"^(\d{1,9})(s|m|h|d|w)$")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=36500)


def parse_duration(text: str) -> timedelta:
    """Parse `45s`, `10m`, `12h`, `7d` or `4w`; raises InvalidRequest."""
    match = DURATION.match(text.strip())
    hint = "write 45s, 10m, 12h, 7d or 4w"
    if not match:
        raise InvalidRequest("not a duration", hint=hint)
    span = timedelta(**{UNITS[match[2]]: int(match[1])}) if int(match[1]) < 10**8 else LONGEST
    if span > LONGEST:
        raise InvalidRequest("the duration is longer than a century", hint=hint)
    return span


def is_terminal() -> bool:
    """Whether a person can be asked something here."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def is_completing() -> bool:
    """Whether a shell asks for completions and not for the command."""
    return "_FLUXCTX_COMPLETE" in os.environ
