"""Measures how long a model takes to score one row, in the way that it will be served."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.model.artifact import LoadedModel

REPEATS, WARM_UPS = 50, 5


def single_row_ms(model: LoadedModel, frame: pd.DataFrame) -> float:
    """The median time of scoring one row, in milliseconds, over 50 rows of the holdout and after a warm-up.

    On one thread, as the server does it: threads that wait for each other on a busy machine tell nothing of the model.
    """
    from threadpoolctl import threadpool_limits

    from mergeline.model.features import to_features
    from mergeline.scorer.equivalence import to_rows

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
