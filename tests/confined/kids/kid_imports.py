"""Imports what the workers import, each by itself, and says what failed."""

import importlib


def main(channel):
    names = channel.recv().head["names"]
    failed = {}
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as missing:
            failed[name] = f"missing {missing.name}"
        except Exception as error:
            failed[name] = repr(error)
    channel.send("done", {"failed": failed})
