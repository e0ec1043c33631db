"""Reads the model that is served, and what was measured of it when it was released."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from mergeline.documents import parse_json, read_text
from mergeline.errors import DataError, ModelError, WatchError
from mergeline.evaluate.results import (
    EVALUATION_FILE,
    EVALUATION_FOLDER,
    Estimate,
    Evaluation,
    Importance,
    Metric,
    read_evaluation,
)
from mergeline.model.artifact import LINEAGE_FILE, MODEL_FOLDER, PROFILE_FILE, SIGNATURE_FILE, folder_digest
from mergeline.model.lineage import ModelLineage
from mergeline.model.profile import Profile
from mergeline.params import METRICS
from mergeline.scorer.signature import Signature

if TYPE_CHECKING:
    import duckdb

    from mergeline.journal.window import Journal, Source, Window
    from mergeline.manifest.schema import Manifest, Release
    from mergeline.params import JournalParams, Params

Part = TypeVar("Part", Signature, Profile, ModelLineage)


@dataclass(frozen=True)
class Served:
    """The model that is watched, and what was measured of it when it was released.

    `evaluation` is None where the one at hand is of another model; `metrics` are then the manifest's, without
    intervals. `partitions` are those that it was trained on. `redacted` are inputs that the journal does not hold as
    they came; of them signature and profile say nothing.
    """

    version: int
    digest: str
    signature: Signature
    profile: Profile
    partitions: tuple[str, ...]
    metrics: tuple[Metric, ...]
    evaluation: Evaluation | None
    redacted: tuple[str, ...] = ()

    def as_journalled(self, settings: JournalParams) -> Served:
        """The same without the inputs that the journal drops or hashes: nothing can be compared with them."""
        hidden = {*settings.drop, *settings.hash}
        redacted = tuple(name for name in self.signature.names if name in hidden)
        columns = tuple(column for column in self.signature.columns if column.name not in hidden)
        return replace(
            self,
            # As metadata, which the model does not read, they are no new columns.
            signature=self.signature.model_copy(
                update={"columns": columns, "metadata": (*self.signature.metadata, *redacted)}
            ),
            profile=self.profile.model_copy(
                update={
                    "numbers": tuple(each for each in self.profile.numbers if each.name not in hidden),
                    "categories": tuple(each for each in self.profile.categories if each.name not in hidden),
                }
            ),
            redacted=redacted,
        )

    @property
    def importance(self) -> Mapping[str, float]:
        """Each input's share of the permutation importance of all; empty where it is not known."""
        return self._shares({entry.feature: entry.loss for entry in self._measured})

    def unused(self, least: float) -> frozenset[str]:
        """The inputs whose share is below `least` even by the upper end of its interval: unknown is not unused."""
        most = {entry.feature: entry.loss if entry.high is None else entry.high for entry in self._measured}
        return frozenset(name for name, share in self._shares(most).items() if share < least)

    @property
    def _measured(self) -> tuple[Importance, ...]:
        return self.evaluation.importance if self.evaluation is not None else ()

    def _shares(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        total = sum(max(0.0, entry.loss) for entry in self._measured)
        return {name: max(0.0, loss) / total for name, loss in losses.items()} if total > 0 else {}


def read_served(root: Path, params: Params, release: Release) -> Served:
    """The model that `release` names: from the work tree where it is that one, else from the store.

    Raises:
        ModelError: its profile is missing, or was made by an earlier Mergeline.
        StoreError: it is not in the store.
    """
    with _folder(root, release) as folder:
        signature = _document(folder / SIGNATURE_FILE, Signature)
        profile = _document(folder / PROFILE_FILE, Profile)
        partitions = _document(folder / LINEAGE_FILE, ModelLineage).partitions
    evaluation = _evaluation(root / EVALUATION_FOLDER, release.digest)
    better = METRICS[params.task]
    promised = tuple(
        Metric(name=name, estimate=Estimate(value=value), higher_is_better=better[name])
        for name, value in release.evidence.metrics.items()
        if name in better
    )
    metrics = promised if evaluation is None else evaluation.metrics
    return Served(release.version, release.digest, signature, profile, partitions, metrics, evaluation)


def read_stable(root: Path, params: Params, manifest: Manifest) -> Served:
    """The model that is watched, without the inputs that the journal does not hold as they came.

    Raises:
        WatchError: nothing is served.
        ModelError: as `read_served`.
        StoreError: as `read_served`.
    """
    release = manifest.spec.stable
    if release is None:
        hint = "propose a first model: mergeline propose"
        raise WatchError("nothing is served", where="deploy/manifest.yaml", hint=hint)
    return read_served(root, params, release).as_journalled(params.serve.journal)


@contextmanager
def _folder(root: Path, release: Release) -> Iterator[Path]:
    """A folder with the model's files, which may be gone afterwards."""
    from mergeline.store.objects import configured_store

    here = root / MODEL_FOLDER
    if here.is_dir() and folder_digest(here) == release.digest:
        yield here
        return
    with tempfile.TemporaryDirectory(prefix="mergeline-watch-") as place:
        folder = Path(place) / "model"
        configured_store(root).fetch_folder(release.source, folder)
        if (found := folder_digest(folder)) != release.digest:
            raise ModelError(
                f"the object is the model {found}, the manifest promises {release.digest}",
                where=release.source,
                hint="make the manifest's `source` and `digest` name one model: mergeline propose",
            )
        yield folder


def _evaluation(folder: Path, digest: str) -> Evaluation | None:
    """The evaluation in the work tree, where it is of this model."""
    path = folder / EVALUATION_FILE
    if not path.exists():
        return None
    content = parse_json(read_text(path), str(path), DataError)
    return read_evaluation(folder) if isinstance(content, dict) and content.get("digest") == digest else None


def _document(path: Path, model: type[Part]) -> Part:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ModelError("a part of the model is missing", where=str(path), hint="fetch the model again") from None
    except ValidationError as cause:
        raise ModelError(
            f"the served model has no {path.stem} that this version can read: {cause.errors()[0]['msg']}",
            where=path.name,
            hint="it was made by an earlier Mergeline: propose a new model, and watch that",
        ) from cause


@dataclass(frozen=True)
class Context:
    """An open connection, the journal's files, the model that is watched, and the params."""

    connection: duckdb.DuckDBPyConnection
    journal: Journal
    served: Served
    params: Params

    def own(self, window: Window) -> Source:
        """The window's files that the watched model answered."""
        return self.journal.source(window).of_digest(self.served.digest)
