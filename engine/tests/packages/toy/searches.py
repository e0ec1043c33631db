"""Pipelines as people write them first: searches, early stopping, parts of their own, and what cannot work."""

import itertools
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
from scipy.stats import loguniform, randint
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes the next import work
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.impute import IterativeImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer, StandardScaler, TargetEncoder
from sklearn.tree import DecisionTreeClassifier

from toy.model import CATEGORIES, NUMBERS, columns, doubled


class Noise(TransformerMixin, BaseEstimator):
    """Keeps what no seed determines."""

    def fit(self, values, target=None):
        self.noise_ = np.random.default_rng().normal()
        self.n_features_in_ = values.shape[1]
        return self

    def transform(self, values):
        return values


class Plain(TransformerMixin, BaseEstimator):
    """A transformer of the team's own."""

    def fit(self, values, target=None):
        self.n_features_in_ = values.shape[1]
        return self

    def transform(self, values):
        return np.asarray(values)


def chosen_by_type(seed):
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    chosen = make_column_transformer((encoder, make_column_selector(dtype_include="str")), remainder="drop")
    return make_pipeline(chosen, LogisticRegression())


def searched(seed):
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, scoring="roc_auc", cv=3)
    return make_pipeline(columns(), search)


def searched_by_chance(seed):
    tree = DecisionTreeClassifier(random_state=seed)
    found = {"max_depth": randint(1, 5), "ccp_alpha": loguniform(1e-4, 1e-2)}
    return RandomizedSearchCV(
        make_pipeline(columns(), tree),
        {f"decisiontreeclassifier__{k}": v for k, v in found.items()},
        n_iter=3,
        cv=3,
        random_state=seed,
    )


def tuned(seed):
    return TunedThresholdClassifierCV(
        make_pipeline(columns(), SelectKBest(f_classif, k=4), LogisticRegression()),
        thresholds=10,
        cv=2,
        random_state=seed,
    )


def tempered(seed):
    return make_pipeline(columns(), CalibratedClassifierCV(LogisticRegression(), method="temperature", cv=3))


def stopped_early(seed):
    model = HistGradientBoostingClassifier(
        max_iter=5, early_stopping=True, scoring="roc_auc", random_state=seed, categorical_features=[3]
    )
    return make_pipeline(columns(), model)


def prepared(seed):
    numbers = make_pipeline(
        IterativeImputer(random_state=seed), SplineTransformer(n_knots=3), Plain(), FunctionTransformer(doubled)
    )
    return make_pipeline(make_column_transformer((numbers, NUMBERS)), LogisticRegression())


def unseeded_forest(seed):
    return make_pipeline(columns(), RandomForestClassifier(5))


def unseeded_encoder(seed):
    encoded = make_column_transformer((TargetEncoder(), CATEGORIES))
    return make_pipeline(encoded, LogisticRegression())


def unseeded_splitter(seed):
    encoded = make_column_transformer((TargetEncoder(cv=4), CATEGORIES))
    model = CalibratedClassifierCV(LogisticRegression(C=seed), cv=KFold(3, shuffle=True))
    return make_pipeline(encoded, model)


def unseeded_linear(seed):
    return make_pipeline(columns(), LogisticRegression())


def with_noise(seed):
    return Pipeline([("columns", columns()), ("noise", Noise()), ("model", LogisticRegression())])


def with_lambda(seed):
    return make_pipeline(columns(), FunctionTransformer(lambda values: values), LogisticRegression())


def with_inner_function(seed):
    def halved(values):
        return values / 2

    return make_pipeline(columns(), FunctionTransformer(halved), LogisticRegression())


def with_foreign_function(seed):
    return make_pipeline(columns(), FunctionTransformer(np.fft.fft), FunctionTransformer(np.real), LogisticRegression())


def with_sparse_columns(seed):
    wide = [[f"{a}{b}" for a, b in itertools.product("abcdefgh", "abcdefgh")] + ["north", "south"]]
    encoded = make_column_transformer((OneHotEncoder(categories=wide), ["region"]))
    return make_pipeline(encoded, HistGradientBoostingClassifier(random_state=seed))


def of_columns(seed, names):
    return make_pipeline(
        make_column_transformer((StandardScaler(), list(names))), LogisticRegression(random_state=seed)
    )


class Slow(TransformerMixin, BaseEstimator):
    """Takes its time to be fitted, and leaves a file in `folder` each time."""

    def __init__(self, seconds=0.0, folder=""):
        self.seconds = seconds
        self.folder = folder

    def fit(self, values, target=None):
        Path(self.folder, uuid4().hex).touch()
        time.sleep(self.seconds)
        self.n_features_in_ = values.shape[1]
        return self

    def transform(self, values):
        return values


def searched_slowly(seed, seconds, folder):
    steps = make_pipeline(Slow(seconds, folder), LogisticRegression())
    return make_pipeline(columns(), GridSearchCV(steps, {"logisticregression__C": [0.01, 0.1, 1.0, 10.0]}, cv=5))
