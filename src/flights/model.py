"""The pipeline that is trained: params.yaml names this function and gives its arguments."""

from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from flights.features import CATEGORIES, NUMBERS


def pipeline(seed: int, **arguments: Any) -> Pipeline:
    """An unfitted pipeline; `arguments` are those of HistGradientBoostingClassifier."""
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    columns = ColumnTransformer([("categories", encode, CATEGORIES), ("numbers", "passthrough", NUMBERS)])
    return Pipeline([("columns", columns), ("model", HistGradientBoostingClassifier(random_state=seed, **arguments))])
