"""The toy pipelines."""

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

NUMBERS = ["amount", "items", "gift"]
CATEGORIES = ["region", "channel"]


def columns():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
        (OneHotEncoder(handle_unknown="ignore"), CATEGORIES),
    )


def linear(seed, **arguments):
    return make_pipeline(columns(), LogisticRegression(random_state=seed, **arguments))


def boosted(seed, **arguments):
    return make_pipeline(columns(), HistGradientBoostingClassifier(random_state=seed, **arguments))


def ridge(seed, **arguments):
    return make_pipeline(columns(), Ridge(random_state=seed, **arguments))


def without_probabilities(seed):
    return make_pipeline(columns(), LinearSVC(random_state=seed))


def doubled(values):
    return np.asarray(values) * 2


def with_own_function(seed):
    return make_pipeline(columns(), FunctionTransformer(doubled), LogisticRegression(random_state=seed))


def few_columns(seed):
    kept = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), CATEGORIES), (SimpleImputer(), ["amount"]))
    return make_pipeline(kept, LogisticRegression(random_state=seed, max_iter=1000))


def regression(seed):
    kept = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), CATEGORIES), ("passthrough", ["items"]))
    return make_pipeline(kept, Ridge(random_state=seed))
