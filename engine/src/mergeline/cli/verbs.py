"""Every verb of the command line, in one application."""

from __future__ import annotations

from mergeline.cli import model, new, promote, propose, release, retrain, rollout, serve, trial, watch  # noqa: F401 - each adds its verbs
from mergeline.cli.app import app

__all__ = ["app"]
