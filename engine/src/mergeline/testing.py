"""What the tests of a team's repository call: sample rows, a model fitted on them, and what the manifest names.

The tests are the team's; what they need to know of the engine is here, and stays from version to version.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergeline.dataset.partitions import list_partitions, read_partition
from mergeline.dataset.rules import schema_failures
from mergeline.dataset.schema import TeamSchema, load_schema
from mergeline.errors import DataError
from mergeline.params import PARAMS_FILE, Params, read_params
from mergeline.store.objects import configured_store, object_path

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from mergeline.scorer.signature import Signature


@dataclass(frozen=True)
class Sample:
    """Rows of the newest partition, typed as the team's schema says, and that schema."""

    rows: pd.DataFrame
    schema: TeamSchema
    params: Params

    def broken_rules(self) -> list[str]:
        """The rules of the schema that some row breaks, as `column: rule`."""
        found = schema_failures(self.rows, self.schema)
        return [] if found is None else sorted({f"{row.column}: {row.check}" for row in found.itertuples()})


@dataclass(frozen=True)
class SampleModel:
    """The team's pipeline, fitted on a sample."""

    pipeline: Any
    signature: Signature
    features: pd.DataFrame

    def scores(self) -> NDArray[np.float64]:
        """What scikit-learn makes of the sample's rows: shape (rows,), or (rows, classes) for a multiclass task."""
        from mergeline.scorer.pipeline import scores

        return scores(self.pipeline, self.features, self.signature)

    def largest_difference(self) -> float:
        """How far the scores that the server would give are from scikit-learn's, at most.

        0 for a pipeline that does not compile: scikit-learn itself serves it.
        """
        from mergeline.scorer.compiling import build_scorer
        from mergeline.scorer.equivalence import largest_difference
        from mergeline.scorer.stored import load_scorer

        with tempfile.TemporaryDirectory() as folder:
            for name, content in build_scorer(self.pipeline, self.signature, self.features, self.features).items():
                (Path(folder) / name).write_bytes(content)
            scorer = load_scorer(Path(folder), self.signature)
        return largest_difference(scorer, self.pipeline, self.signature, self.features) if scorer else 0.0


def read_sample(root: Path = Path(), rows: int = 1000) -> Sample:
    """At most so many rows of the newest partition, evenly spread; taken from the store where data/ was not pulled.

    Raises:
        ParamsError, CodeError: params.yaml or the schema is wrong.
        DataError: there is no partition, or a column holds what its type cannot.
        StoreError: the store lacks the data.
    """
    params = read_params(root / PARAMS_FILE)
    schema = load_schema(params.data)
    with _data_folder(root, params.data.path) as folder:
        frame = read_partition(list_partitions(folder)[-1], schema)
    step = max(1, -(-len(frame) // rows))
    return Sample(frame.iloc[::step].reset_index(drop=True), schema, params)


def fit_sample(sample: Sample) -> SampleModel:
    """Fit the pipeline that `model.factory` makes.

    Raises:
        CodeError: the factory or the pipeline raised, or cannot do what the task needs.
    """
    from mergeline.model.fit import fit, make_signature
    from mergeline.scorer.pipeline import to_features

    signature = make_signature(sample.rows, sample.schema, sample.params)
    features = to_features(sample.rows, signature.columns)
    return SampleModel(fit(features, sample.rows[sample.params.data.target], sample.params), signature, features)


def failed_checks(root: Path = Path()) -> list[str]:
    """What `mergeline verify` says of the manifest, the store and the signatures; empty where all is well."""
    from mergeline.release.verify import verify

    checks = verify(root, read_params(root / PARAMS_FILE))
    return [f"{check.name}: {check.value}" for check in checks if check.status.value == "fail"]


@contextmanager
def _data_folder(root: Path, path: str) -> Iterator[Path]:
    from mergeline.release.reproduce import named_data

    if (root / path).is_dir():
        yield root / path
        return
    named = named_data(root, path)
    if not named:
        raise DataError("there are no data", where=f"{path}/", hint=f"put partitions there, and: dvc add {path}")
    with tempfile.TemporaryDirectory() as folder:
        source = object_path(named.removeprefix("md5:"))
        configured_store(root).fetch_folder(source, Path(folder) / "data", max_bytes=sys.maxsize)
        yield Path(folder) / "data"
