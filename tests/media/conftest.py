from __future__ import annotations

from collections.abc import Iterator

import pytest

from fluxctx.media.client import MediaRoom


@pytest.fixture(scope="session")
def room() -> Iterator[MediaRoom]:
    """The real room: real confined children, started once for all tests."""
    with MediaRoom() as media:
        media.start(uploads=True)
        yield media
