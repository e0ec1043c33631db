"""Measures how long a model takes to score one row."""

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

    taken = []
    with threadpool_limits(1):
        for repeat in range(WARM_UPS + REPEATS):
            row = frame.iloc[[repeat % len(frame)]]
            start = time.perf_counter()
            model.predict(row)
            taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken[WARM_UPS:])
