"""One of many processes at work on one vault; prints the ids it was promised and did not purge."""

from __future__ import annotations

import random
import sys
import time
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fluxctx.errors import Busy
from tests.vault.places import NOW, Place, new, put


def main() -> None:
    place, chance, rounds = Place(Path(sys.argv[1])), random.Random(int(sys.argv[2])), int(sys.argv[3])
    mine: dict[str, bytes] = {}
    with place.open() as vault:
        for number in range(rounds):
            what = chance.choice(["put", "put", "group", "purge", "retain", "sweep"])
            content = f"{sys.argv[2]} {number}".encode()
            if what == "put":
                mine[put(vault, content).id] = content
            elif what == "group":
                for item in vault.put([new(content)] * 3, now=NOW):
                    mine[item.id] = content
            elif what == "sweep":
                place.sweep()
            elif mine:
                item_id = chance.choice(sorted(mine))
                patiently(vault, item_id, what, mine)
            for item_id, expected in mine.items():
                assert vault.read(item_id, now=NOW) == expected
    print(*mine)


def patiently(vault: object, item_id: str, what: str, mine: dict[str, bytes]) -> None:
    """A busy cell is said so and tried again, as a user would."""
    for _ in range(200):
        try:
            if what == "purge":
                vault.purge([item_id], now=NOW)
                del mine[item_id]
            else:
                vault.retain(item_id, NOW + timedelta(days=40), now=NOW)
            return
        except Busy:
            time.sleep(0.01)
    raise AssertionError("busy for ever")


main()
