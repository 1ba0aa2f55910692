"""A worker whose model code prints: a megabyte to stdout and stderr, then the real thing."""

import sys

from fluxctx.confined.wire import Channel
from fluxctx.engine import worker


def main(channel: Channel) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.write("PRINTED a red apple\n" * 50_000)
        stream.flush()
    worker.main(channel)
