"""The pipeline that is trained: params.yaml names this function and gives its arguments."""

from typing import Any

from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder, TargetEncoder

CATEGORIES = ["channel", "country"]
NUMBERS = ["amount", "hour", "card_days", "payments_today"]


def pipeline(seed: int, **arguments: Any) -> Pipeline:
    """An unfitted pipeline; `arguments` are those of HistGradientBoostingClassifier.

    A merchant is its share of frauds in training, shrunk to the mean where it has few payments; a new one is the mean.
    """
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    # What a merchant is in training comes from the other folds' payments, so that no payment tells of itself.
    rates = TargetEncoder(cv=StratifiedKFold(5, shuffle=True, random_state=seed))
    columns = make_column_transformer((rates, ["merchant"]), (encode, CATEGORIES), ("passthrough", NUMBERS))
    return make_pipeline(columns, HistGradientBoostingClassifier(random_state=seed, **arguments))
