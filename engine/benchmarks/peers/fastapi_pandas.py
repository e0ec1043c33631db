"""FastAPI, pandas and scikit-learn as most people write it.

    python benchmarks/peers/fastapi_pandas.py PIPELINE.joblib PORT

Needs no Mergeline: it runs in an environment of its own.
"""

import sys
from typing import Any

import joblib
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model

pipeline = joblib.load(sys.argv[1])
numbers, categories = (columns for _, _, columns in pipeline[0].transformers_)
fields: dict[str, Any] = dict.fromkeys(numbers, (float | None, None)) | dict.fromkeys(categories, (str, ...))
Record: type[BaseModel] = create_model("Record", **fields)
app = FastAPI()


@app.post("/predict")
def predict(records: Record | list[Record]) -> list[dict[str, Any]]:  # type: ignore[valid-type]
    """A row for each record."""
    listed = records if isinstance(records, list) else [records]
    frame = pd.DataFrame([record.model_dump() for record in listed])
    scores = pipeline.predict_proba(frame)[:, 1]
    return [{"score": float(score), "label": bool(score >= 0.5)} for score in scores]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
