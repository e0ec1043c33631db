"""The pipeline that is trained: params.yaml names this function and gives its arguments."""

from typing import Any

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def pipeline(seed: int, **arguments: Any) -> Pipeline:
    """An unfitted pipeline; `arguments` are those of Ridge."""
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_include="str")),
        (StandardScaler(), make_column_selector(dtype_include="number")),
    )
    return make_pipeline(columns, Ridge(random_state=seed, **arguments))
