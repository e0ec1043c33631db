"""NannyML's univariate drift with its defaults; called by the benchmarks in an environment of its own."""

import json
import resource
import sys

import nannyml
import pandas as pd


def main(reference: str, *windows: str) -> None:
    known = pd.read_parquet(reference)
    numbers = [name for name in known if name.startswith("n")]
    for window in windows:
        now = pd.read_parquet(window)
        calculator = nannyml.UnivariateDriftCalculator(
            column_names=list(known.columns),
            treat_as_categorical=[name for name in known if name not in numbers],
            chunk_size=min(len(now), len(known)),
        )
        found = calculator.fit(known).calculate(now).filter(period="analysis").to_df()
        drifted = {column[0] for column in found.columns if column[-1] == "alert" and found[column].any()}
        print(json.dumps({"window": window, "columns": len(drifted), "dataset": bool(drifted)}))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024}))


main(*sys.argv[1:])
