"""Evidently's DataDriftPreset with its defaults; called by the benchmarks in an environment of its own."""

import json
import resource
import sys

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset


def main(reference: str, *windows: str) -> None:
    known = pd.read_parquet(reference)
    numbers = [name for name in known if name.startswith("n")]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=[n for n in known if n not in numbers])
    before = Dataset.from_pandas(known, data_definition=definition)
    for window in windows:
        now = Dataset.from_pandas(pd.read_parquet(window), data_definition=definition)
        found = json.loads(Report([DataDriftPreset()]).run(now, before).json())
        summary = next(m["value"] for m in found["metrics"] if "DriftedColumnsCount" in json.dumps(m["config"]))
        print(json.dumps({"window": window, "columns": summary["count"], "dataset": summary["share"] >= 0.5}))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024}))


main(*sys.argv[1:])
