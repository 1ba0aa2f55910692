"""The sweep by itself: a systemd user timer, a launchd agent or a Task Scheduler entry, every hour.

One entry a home, named after it, so that two homes never share one.
Sources: systemd.timer(5), launchd.plist(5), schtasks /Create.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerState:
    """Whether the sweep runs by itself, and what a person should know about it."""

    installed: bool
    detail: str


HINT = "run `fluxctx sweep` from cron, or let every fluxctx command do it"


def timer_name(home: Path) -> str:
    return "fluxctx-sweep-" + hashlib.sha256(str(home).encode()).hexdigest()[:8]


def install(home_argument: list[str], home: Path, user_home: Path) -> TimerState:
    """Install the hourly sweep for one home; says why where it cannot.

    Args:
        home_argument: `["--home", DIR]`, or nothing for the platform's places.
        home: What names the entry.
        user_home: The user's home directory.
    """
    command = [sys.executable, "-m", "fluxctx", "sweep", "--quiet", "--no-input", *home_argument]
    if sys.platform == "darwin":
        return install_launchd(command, timer_name(home), user_home)
    if sys.platform == "win32":
        return install_task(command, timer_name(home))
    return install_systemd(command, timer_name(home), user_home)


def state(home: Path, user_home: Path) -> TimerState:
    """Ask the system itself, not a file of ours, whether the timer runs."""
    name = timer_name(home)
    if sys.platform == "darwin":
        known = run(["launchctl", "list", f"dev.{name}"])
    elif sys.platform == "win32":
        known = run(["schtasks", "/Query", "/TN", name])
    else:
        known = run(["systemctl", "--user", "is-active", f"{name}.timer"])
    if known.ok:
        return TimerState(installed=True, detail="every hour, by the system's own timer")
    return TimerState(installed=False, detail=f"no timer is running for this home; {HINT}")


def remove(home: Path, user_home: Path) -> bool:
    """Take the entry away; returns whether there was one."""
    name = timer_name(home)
    if sys.platform == "darwin":
        path = user_home / f"Library/LaunchAgents/dev.{name}.plist"
        run(["launchctl", "unload", str(path)])
        found = path.exists()
        path.unlink(missing_ok=True)
        return found
    if sys.platform == "win32":
        return run(["schtasks", "/Delete", "/F", "/TN", name]).ok
    run(["systemctl", "--user", "disable", "--now", f"{name}.timer"])
    units = [user_home / f".config/systemd/user/{name}.{kind}" for kind in ("service", "timer")]
    found = any(unit.exists() for unit in units)
    for unit in units:
        unit.unlink(missing_ok=True)
    return found


def install_systemd(command: list[str], name: str, user_home: Path) -> TimerState:
    """Write a service and a timer of the user's own and start the timer."""
    if not run(["systemctl", "--user", "show-environment"]).ok:
        return TimerState(installed=False, detail=f"no systemd user session here; {HINT}")
    folder = user_home / ".config/systemd/user"
    folder.mkdir(parents=True, exist_ok=True)
    quoted = " ".join(systemd_word(word) for word in command)
    service = f"[Unit]\nDescription=fluxctx: destroy what has expired\n\n[Service]\nType=oneshot\nExecStart={quoted}\n"
    timer = (
        "[Unit]\nDescription=fluxctx: hourly sweep\n\n[Timer]\nOnCalendar=hourly\nPersistent=true\n"
        "RandomizedDelaySec=300\n\n[Install]\nWantedBy=timers.target\n"
    )
    (folder / f"{name}.service").write_text(service, encoding="utf-8")
    (folder / f"{name}.timer").write_text(timer, encoding="utf-8")
    run(["systemctl", "--user", "daemon-reload"])
    started = run(["systemctl", "--user", "enable", "--now", f"{name}.timer"])
    if not started.ok:
        return TimerState(installed=False, detail=f"systemd refused the timer; {HINT}")
    return TimerState(installed=True, detail="every hour, by a systemd user timer")


def systemd_word(word: str) -> str:
    """One argument of ExecStart=, taken literally: quotes, specifiers and variables are escaped."""
    for special, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(special, escaped)
    return f'"{word}"'


def install_launchd(command: list[str], name: str, user_home: Path) -> TimerState:
    """Write and load a launch agent."""
    path = user_home / f"Library/LaunchAgents/dev.{name}.plist"
    path.parent.mkdir(parents=True, exist_ok=True)
    words = "".join(f"<string>{escape(word)}</string>" for word in command)
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict>'
        f"<key>Label</key><string>dev.{name}</string>"
        f"<key>ProgramArguments</key><array>{words}</array>"
        "<key>StartInterval</key><integer>3600</integer><key>RunAtLoad</key><true/></dict></plist>\n",
        encoding="utf-8",
    )
    if not run(["launchctl", "load", "-w", str(path)]).ok:
        return TimerState(installed=False, detail=f"launchd refused the agent; {HINT}")
    return TimerState(installed=True, detail="every hour, by launchd")


def install_task(command: list[str], name: str) -> TimerState:
    """Make a Task Scheduler entry of the user's own."""
    line = subprocess.list2cmdline(command)
    made = run(["schtasks", "/Create", "/F", "/SC", "HOURLY", "/TN", name, "/TR", line])
    if not made.ok:
        return TimerState(installed=False, detail=f"Task Scheduler refused the entry; {HINT}")
    return TimerState(installed=True, detail="every hour, by Task Scheduler")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a system command ended."""

    ok: bool


def run(command: list[str]) -> Ran:
    """Run a system tool by name; missing, failing and hanging all mean no."""
    program = shutil.which(command[0])
    if program is None:
        return Ran(ok=False)
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Ran(ok=False)
    return Ran(ok=done.returncode == 0)
