"""The pipeline that is trained: params.yaml names this function and gives its arguments."""

from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def pipeline(seed: int, **arguments: Any) -> Pipeline:
    """An unfitted pipeline; `arguments` are those of LogisticRegression."""
    return make_pipeline(StandardScaler(), LogisticRegression(random_state=seed, **arguments))
