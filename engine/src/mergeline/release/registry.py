"""Registers in MLflow what the manifest releases."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mergeline.errors import MergelineError, ToolError
from mergeline.manifest.schema import Manifest, Release
from mergeline.manifest.transitions import releases
from mergeline.model.artifact import FETCHED_FOLDER, folder_digest
from mergeline.params import Params
from mergeline.release.mlflow_client import ask, tracking_place
from mergeline.store.objects import configured_store


@dataclass(frozen=True)
class Registered:
    """The registered version behind each alias; and what is missing."""

    versions: dict[str, str] = field(default_factory=dict)
    warning: str | None = None


def register(manifest: Manifest, params: Params, root: Path) -> Registered:
    """Make the registry say what the manifest says, however often it is asked for.

    Each digest has one registered version, tied to its run: the one that a proposal recorded, or else one that is made
    here from the model's files in the store, so that `mlflow.sklearn.load_model("models:/NAME@champion")` finds them.
    The alias `champion` points to the stable model, `candidate` to the candidate; an alias without a model goes away.

    Args:
        manifest: what is released.
        params: where the registry is kept.
        root: the repository; a relative SQLite database lies in it.
    """
    named, warnings = {}, []
    for role, release in releases(manifest).items():
        named[role] = {"digest": release.digest, "version": str(release.version), "source": release.source}
        try:
            named[role]["folder"] = str(_model_folder(root, release))
        except MergelineError as error:
            warnings.append(f"version {release.version} may have no files in MLflow: {error}")
    job = {"do": "register", "name": manifest.metadata.name, "releases": named}
    try:
        answer = ask(job, tracking_place(params.tracking, root))
    except ToolError as error:
        return Registered(warning=f"the model was not registered: {error}")
    return Registered(answer["versions"], warning="; ".join(warnings) or None)


def _model_folder(root: Path, release: Release) -> Path:
    """The released model's files, in a folder of their own."""
    folder = root / FETCHED_FOLDER / release.digest.removeprefix("sha256:")
    if not folder.exists() or folder_digest(folder) != release.digest:
        configured_store(root).fetch_folder(release.source, folder)
    return folder.resolve()
