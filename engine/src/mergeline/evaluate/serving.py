"""Measures how a model will be served: whether the compiled scorer still equals scikit-learn, and how fast it is."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

from mergeline.scorer.stored import Proof, read_document

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
    from mergeline.scorer.equivalence import largest_difference
    from mergeline.scorer.pipeline import to_features

    features = to_features(frame, model.signature.columns)
    return Served(None, document.proof, largest_difference(scorer, model.pipeline, model.signature, features))


REPEATS, WARM_UPS = 50, 5


def single_row_ms(model: LoadedModel, frame: pd.DataFrame) -> float:
    """The median time of scoring one row, in milliseconds, over 50 rows of the holdout and after a warm-up.

    On one thread, as the server does it: threads that wait for each other on a busy machine tell nothing of the model.
    """
    from threadpoolctl import threadpool_limits

    from mergeline.scorer.equivalence import to_rows
    from mergeline.scorer.pipeline import to_features

    scorer = model.scorer
    columns = model.signature.columns
    requests = [[row] for row in to_rows(to_features(frame.head(REPEATS), columns), columns)] if scorer else []
    taken = []
    with threadpool_limits(1):
        for repeat in range(WARM_UPS + REPEATS):
            row = frame.iloc[[repeat % len(frame)]]
            start = time.perf_counter()
            if scorer is None:
                model.predict(row)
            else:
                scorer.score(scorer.encode(requests[repeat % len(requests)]))
            taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken[WARM_UPS:])
