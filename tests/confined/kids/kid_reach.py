"""Runs the probe's attempts, whatever layers are left."""

from fluxctx.confined.attempts import main

__all__ = ["main"]
