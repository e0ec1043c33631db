"""`deploy/manifest.yaml` as frozen types, and as the JSON Schema that is written from them."""
# ruff: noqa: N815 - the keys are written as in Kubernetes

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mergeline.documents import Frozen, load, nearest, parse
from mergeline.errors import ManifestError
from mergeline.files import compact_json, write_text
from mergeline.home import MODELS
from mergeline.release_params import DEPLOY_FOLDERS, ONE_ENVIRONMENT, Rollout, Whole

MANIFEST_FILE = Path("deploy/manifest.yaml")
MANIFEST_VERSION = "mergeline/v1"
"""The `apiVersion` that this engine reads."""
SCHEMA_FILE = Path("deploy/manifest.schema.json")

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
DataDigest = Annotated[str, Field(pattern=r"^md5:[0-9a-f]{32}\.dir$")]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Metadata(Frozen):
    """The deployment's name, and free text."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")
    annotations: dict[str, str] = Field(default_factory=dict)


class Lineage(Frozen):
    """What the model was made from; `code` is the git tree of the team's package."""

    code: str = Field(pattern=r"^[0-9a-f]{40}$")
    data: DataDigest
    params: Digest
    environment: Digest


GAIN = "gain"
"""The entry of a release's metrics that says how much better it is by the gate's metric than the model that it was
judged against, on the same rows: a positive one is better, whichever way the metric goes."""


class Evidence(Frozen):
    """Why it was released: the pull request, the holdout metrics, and the digest of the gate's verdict.

    The first of the metrics is the one that the gate compares by.
    """

    pull: Whole | None = Field(default=None, ge=1)
    metrics: dict[str, Number]
    gate: Digest


class Release(Frozen):
    """One model: `digest` is its identity, `version` is for people, `source` is its object in the store."""

    version: Whole = Field(ge=1)
    digest: Digest
    source: str = Field(pattern=r"^files/md5/[0-9a-f]{2}/[0-9a-f]{30}\.dir$")
    lineage: Lineage
    evidence: Evidence
    signature: str | None = Field(default=None, pattern=r"^deploy/signatures/[0-9a-f]{64}\.json$")


class Hold(Frozen):
    """A digest that is not proposed again until a person lifts it.

    `version` is that of a candidate that was taken off: it stands nowhere else, and is not given away again.
    """

    digest: Digest
    reason: str
    pull: Whole | None = Field(default=None, ge=1)
    version: Whole | None = Field(default=None, ge=1)


class Spec(Frozen):
    """The desired state; live weights and measurements never go in."""

    stable: Release | None = None
    previous: Release | None = None
    candidate: Release | None = None
    rollout: Rollout = Rollout()
    holds: tuple[Hold, ...] = ()

    @property
    def serving(self) -> tuple[Release, ...]:
        """What answers requests: the stable model, and the candidate beside it."""
        return tuple(release for release in (self.stable, self.candidate) if release is not None)

    @property
    def held(self) -> frozenset[str]:
        """The digests under a hold."""
        return frozenset(hold.digest for hold in self.holds)

    @model_validator(mode="before")
    @classmethod
    def _a_hold_on_the_candidate_ends_its_rollout(cls, data: Any) -> Any:
        """Read a candidate that a person has put under a hold as one that is gone; the hold keeps its version."""
        candidate, holds = (data.get("candidate"), data.get("holds")) if isinstance(data, dict) else (None, None)
        if not isinstance(candidate, dict) or not isinstance(holds, list):
            return data
        digest, version = candidate.get("digest"), {"version": candidate.get("version")}
        on_it = [isinstance(hold, dict) and hold.get("digest") == digest for hold in holds]
        if not any(on_it):
            return data
        kept = [version | hold if its else hold for hold, its in zip(holds, on_it, strict=True)]
        return {**data, "candidate": None, "holds": kept}

    @model_validator(mode="after")
    def _releases_fit(self) -> Spec:
        if self.candidate is not None and self.rollout.strategy == "replace":
            raise ValueError("rollout.strategy: a candidate needs strategy canary or shadow; replace has none")
        if self.candidate is not None and self.rollout.strategy == "canary" and not self.rollout.steps:
            raise ValueError("rollout.steps: a canary needs at least one step, as {weight: 5, hold: 15m}")
        if self.stable is None and (self.previous is not None or self.candidate is not None):
            raise ValueError("stable: a previous or a candidate model needs a stable one")
        for role in ("stable", "candidate"):
            release = getattr(self, role)
            if release is not None and release.digest in self.held:
                raise ValueError(f"{role}.digest: {release.digest[:19]}… is under a hold")
        return self


class Manifest(Frozen):
    """The whole file."""

    apiVersion: Literal["mergeline/v1"]
    kind: Literal["ModelDeployment"]
    metadata: Metadata
    spec: Spec

    @model_validator(mode="before")
    @classmethod
    def _version_is_known(cls, data: Any) -> Any:
        found = data.get("apiVersion") if isinstance(data, dict) else None
        if isinstance(found, str) and re.fullmatch(r"mergeline/v\d+", found) and found != MANIFEST_VERSION:
            told = f"the file has version {found}, and this engine reads {MANIFEST_VERSION}"
            raise ValueError(f"apiVersion: {told}; hint: mergeline upgrade")
        return data


def manifest_path(environments: Sequence[str] = ONE_ENVIRONMENT, environment: str = "") -> Path:
    """Where the manifest of an environment is, from the root: the last one keeps `deploy/manifest.yaml`.

    Args:
        environments: `release.environments` of the params.
        environment: one of them; if empty, the first, which is the one that proposals write.

    Raises:
        ManifestError: there is no such environment.
    """
    name = environment or environments[0]
    if name not in environments:
        guess = nearest(name, environments)
        raise ManifestError(
            f"there is no environment {name!r}",
            where="params.yaml: release.environments",
            hint=f"did you mean {guess}?" if guess else f"there are: {', '.join(environments)}",
        )
    return MANIFEST_FILE if name == environments[-1] else MANIFEST_FILE.with_name(name) / MANIFEST_FILE.name


def is_manifest(path: str) -> bool:
    """Whether a path from the root is where a manifest may be, whatever the environments are called."""
    parts = PurePosixPath(path).parts
    parts = parts[2:] if parts[:1] == MODELS.parts else parts
    taken = len(parts) == 3 and parts[1] in DEPLOY_FOLDERS  # a file of Kubernetes', say
    return len(parts) in (2, 3) and (parts[0], parts[-1]) == MANIFEST_FILE.parts and not taken


def read_manifest(path: Path = MANIFEST_FILE) -> Manifest:
    """Read and check the manifest.

    Raises:
        ManifestError: with file, line, key and the nearest right key.
    """
    return load(path, Manifest, ManifestError)


def parse_manifest(text: str, where: Path | str = MANIFEST_FILE) -> Manifest:
    """Read and check the text of a manifest; `where` names it in errors.

    Raises:
        ManifestError: with file, line, key and the nearest right key.
    """
    return parse(text, Manifest, str(where), ManifestError)


def manifest_schema() -> dict[str, Any]:
    """The manifest as JSON Schema 2020-12.

    It refuses what the types refuse, but for rules that compare values, which the language cannot say: weights that
    grow from step to step, analyses with names of their own, and a stable model that is under a hold.
    """
    schema = Manifest.model_json_schema()
    schema["$defs"]["Spec"]["allOf"] = [
        {
            "if": {"properties": {role: {"type": "object"}}, "required": [role]},
            "then": {"properties": {"stable": {"type": "object"}}, "required": ["stable"]},
        }
        for role in ("previous", "candidate")
    ] + [
        {
            "if": {"properties": {"candidate": {"type": "object"}}, "required": ["candidate"]},
            "then": {
                "properties": {
                    "rollout": {"properties": {"strategy": {"enum": ["canary", "shadow"]}}, "required": ["strategy"]}
                },
                "required": ["rollout"],
            },
        },
        {
            "if": {
                "properties": {
                    "candidate": {"type": "object"},
                    "rollout": {"properties": {"strategy": {"const": "canary"}}},
                },
                "required": ["candidate", "rollout"],
            },
            "then": {"properties": {"rollout": {"properties": {"steps": {"minItems": 1}}, "required": ["steps"]}}},
        },
    ]
    schema["$defs"]["Rollout"]["if"] = {"properties": {"strategy": {"const": "shadow"}}, "required": ["strategy"]}
    schema["$defs"]["Rollout"]["then"] = {
        "properties": {"steps": {"prefixItems": [{"properties": {"weight": {"minimum": 1}}}]}}
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The schema as the file holds it."""
    return compact_json(manifest_schema()) + "\n"


def write_schema(path: Path = SCHEMA_FILE) -> None:
    """Write the schema, whole or not at all."""
    write_text(path, schema_text())


if __name__ == "__main__":
    write_schema()
