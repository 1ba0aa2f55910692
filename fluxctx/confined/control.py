"""The probe's control: `python -I -B -m fluxctx.confined.control FD`, the same attempts without a sandbox.

It must get through, else the probe is blind.  It does nothing else and can be made to do nothing else.
"""

from __future__ import annotations

import sys

from fluxctx.confined import attempts
from fluxctx.confined.wire import Channel


def run() -> None:
    """Answer probe frames until the parent is gone."""
    channel = Channel(int(sys.argv[1]))
    try:
        channel.recv()  # the start frame, which only a child that is confined has a use for
        attempts.main(channel)
    except EOFError:
        pass


if __name__ == "__main__":
    run()
