"""Finds out how a model will be served, and whether that still gives scikit-learn's scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mergeline.scorer.document import Proof
from mergeline.scorer.stored import read_document

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.model.artifact import LoadedModel


class Served(NamedTuple):
    """How a model will be served.

    `reason` says why scikit-learn must; `proof` is the scorer's, as it was built, and `difference` the
    largest one on the holdout, on this machine. All three are None for a model made before there were scorers.
    """

    reason: str | None
    proof: Proof | None
    difference: float | None


def how_served(model: LoadedModel, frame: pd.DataFrame) -> Served:
    """Look at a model's scorer, and compare it with the pipeline on every row of the holdout.

    Raises:
        ModelError: the scorer is damaged.
    """
    document = read_document(model.folder)
    scorer = model.scorer
    if document is None or scorer is None:
        return Served(None if document is None else document.reason, None, None)
    from mergeline.model.features import to_features
    from mergeline.scorer.equivalence import largest_difference

    features = to_features(frame, model.signature.columns)
    return Served(None, document.proof, largest_difference(scorer, model.pipeline, model.signature, features))
