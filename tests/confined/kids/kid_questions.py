"""Asks what libraries ask of their machine: each question must have an answer."""

import traceback


def questions():
    import concurrent.futures
    import ctypes.util
    import datetime as dt
    import getpass
    import importlib.metadata
    import locale
    import logging
    import mimetypes
    import multiprocessing
    import os
    import pathlib
    import platform
    import secrets
    import shutil
    import socket
    import time
    import uuid
    import zoneinfo

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield "threads", list(pool.map(lambda n: n * n, range(8)))
    yield "mime", mimetypes.guess_type("a.png")
    yield "platform", platform.platform()
    yield "machine", platform.machine()
    yield "processor", platform.processor()
    yield "libc", platform.libc_ver()
    yield "user", getpass.getuser()
    yield "home", str(pathlib.Path.home())
    yield "expanduser", str(pathlib.Path("~/.cache").expanduser())
    yield "cpus", multiprocessing.cpu_count() == os.cpu_count()
    yield "affinity", len(os.sched_getaffinity(0)) > 0
    yield "locale", locale.setlocale(locale.LC_ALL, "")
    yield "local time", time.localtime(0).tm_year in (1969, 1970)
    yield "zone", str(zoneinfo.ZoneInfo("UTC"))
    yield "now", dt.datetime.now(dt.UTC).year > 2000
    yield "uuid", len(str(uuid.uuid4()))
    yield "random", len(secrets.token_bytes(16))
    with pathlib.Path("/dev/urandom").open("rb") as source:
        yield "urandom", len(source.read(8))
    yield "terminal", tuple(shutil.get_terminal_size())
    yield "tty", os.isatty(1)
    yield "which", shutil.which("gcc")
    yield "library", ctypes.util.find_library("nonexistent")
    yield "version", bool(importlib.metadata.version("numpy"))
    yield "logging", logging.getLogger("x").isEnabledFor(logging.ERROR)
    yield "host", isinstance(socket.gethostname(), str)
    yield "pid", os.getpid() > 0


def main(channel):
    channel.recv()
    answers = {}
    try:
        for question in questions():
            answers.update([question])
    except Exception:
        answers["failed after"] = [list(answers)[-1:], traceback.format_exc()]
    channel.send("answers", answers)
