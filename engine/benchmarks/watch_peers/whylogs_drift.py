"""whylogs profiles of both sides and its drift scores; called by the benchmarks in an environment of its own."""

import json
import resource
import sys

import pandas as pd
import whylogs
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores


def main(reference: str, *windows: str) -> None:
    known = whylogs.log(pd.read_parquet(reference)).view()
    for window in windows:
        now = whylogs.log(pd.read_parquet(window)).view()
        found = calculate_drift_scores(target_view=now, reference_view=known, with_thresholds=True)
        drifted = [name for name, score in found.items() if score and score.get("drift_category") == "DRIFT"]
        print(json.dumps({"window": window, "columns": len(drifted), "dataset": bool(drifted)}))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024}))


main(*sys.argv[1:])
