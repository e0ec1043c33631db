"""Registers in MLflow what the manifest releases."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mergeline.errors import ToolError
from mergeline.manifest.schema import Manifest
from mergeline.manifest.transitions import releases
from mergeline.params import Params
from mergeline.release.mlflow_client import ask, tracking_place


@dataclass(frozen=True)
class Registered:
    """The registered version behind each alias; or why there is none."""

    versions: dict[str, str] = field(default_factory=dict)
    warning: str | None = None


def register(manifest: Manifest, params: Params, root: Path) -> Registered:
    """Make the registry say what the manifest says, however often it is asked for.

    Each digest has one registered version, tied to its run where that was recorded. The alias `champion`
    points to the stable model, `candidate` to the candidate; an alias without a model goes away.

    Args:
        manifest: what is released.
        params: where the registry is kept.
        root: the repository; a relative SQLite database lies in it.
    """
    named = {
        role: {"digest": release.digest, "version": str(release.version), "source": release.source}
        for role, release in releases(manifest).items()
    }
    job = {"do": "register", "name": manifest.metadata.name, "releases": named}
    try:
        answer = ask(job, tracking_place(params.tracking, root))
    except ToolError as error:
        return Registered(warning=f"the model was not registered: {error}")
    return Registered(answer["versions"])
