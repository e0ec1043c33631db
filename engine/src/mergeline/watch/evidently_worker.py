"""Runs inside Evidently's environment: reads two samples, and writes its report. It imports nothing of Mergeline."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Write `evidently.html` and `evidently.json` beside the samples."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report  # type: ignore[import-not-found]
    from evidently.presets import DataDriftPreset, DataSummaryPreset  # type: ignore[import-not-found]

    columns = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    samples = [pd.read_parquet(folder / f"{name}.parquet") for name in ("current", "reference")]
    # Evidently refuses a column without a value.
    kept = [name for name in samples[0].columns if all(sample[name].notna().any() for sample in samples)]
    definition = DataDefinition(
        numerical_columns=[name for name in columns["numbers"] if name in kept],
        categorical_columns=[name for name in columns["categories"] if name in kept],
    )
    current, reference = (Dataset.from_pandas(sample[kept], data_definition=definition) for sample in samples)
    result = Report([DataDriftPreset(), DataSummaryPreset()]).run(current, reference)
    result.save_html(str(folder / "evidently.html"))
    result.save_json(str(folder / "evidently.json"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
