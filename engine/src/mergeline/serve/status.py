"""Tells what is served: the part of GET /status that is about models and the manifest."""

from __future__ import annotations

from typing import Any

from mergeline.serve.state import Failure, ServedModel, State


def describe(state: State, *, ready: bool) -> dict[str, Any]:
    """The name, the models, the manifest's digest, and what keeps the newest manifest out of service."""
    serving, failure = state.serving, state.failure
    loaded = [model for model in (serving.stable, serving.candidate) if model] if serving else []
    return {
        "name": serving.name if serving else None,
        "ready": ready,
        "stable": _model(serving.stable) if serving else None,
        "models": [served.model.digest for served in loaded],
        "manifest": serving.manifest if serving else None,
        "error": _failure(failure) if failure else None,
    }


def _model(served: ServedModel) -> dict[str, Any]:
    since = served.since.isoformat(timespec="milliseconds")
    scoring = "compiled" if served.is_compiled else "scikit-learn"
    return {"version": served.version, "digest": served.model.digest, "since": since, "scoring": scoring}


def _failure(failure: Failure) -> dict[str, Any]:
    error, since = failure.error, failure.since.isoformat(timespec="milliseconds")
    return {"what": error.what, "where": error.where, "hint": error.hint, "since": since}
