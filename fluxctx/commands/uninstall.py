"""`fluxctx uninstall`."""

from __future__ import annotations

import shutil

from fluxctx import inspection
from fluxctx.commands.base import Session, single


def uninstall(session: Session) -> None:
    """Remove the timer and sockets; asks before any vault.

    --yes does not delete a vault: that is asked for on a terminal only, since it cannot be undone.
    """
    removed = []
    with session.runtime() as runtime:
        state = inspection.remove_timer(runtime)
        if state["removed"]:
            removed.append("timer")
        places = session.config.places
        if places.run.exists():
            shutil.rmtree(places.run)
            removed.append("sockets")
        if session.may_ask and places.data.exists():
            question = "delete every vault of this home for good? what is in them cannot be brought back"
            if session.confirm(question) and not session.common.yes:
                runtime.destroy_home()
                removed.append("vaults")
    session.console.done({"removed": removed}, [f"removed: {', '.join(removed) or 'nothing was there'}"])


app = single(uninstall)
