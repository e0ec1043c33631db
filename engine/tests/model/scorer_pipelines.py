"""Pipelines that are compiled and compared with scikit-learn."""

import warnings

import numpy as np
import pytest
from hypothesis import strategies as st
from scorer_samples import NUMBERS, TEXTS, WHOLE, assert_equal, houses, signature, target
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LogisticRegression,
    Ridge,
)
from sklearn.model_selection import KFold
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from mergeline.params import Task

pytestmark = pytest.mark.slow


TASKS = list(Task)


IGNORE = {"handle_unknown": "ignore"}


UNKNOWN = {"handle_unknown": "use_encoded_value"}


def fitted(pipeline, frame, task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline.fit(frame, target(frame, task))


def check(pipeline, task, frame=None, positive=True):
    frame = houses() if frame is None else frame
    return assert_equal(fitted(pipeline, frame, task), signature(task, positive), frame)


def columns(texts=None, numbers=None, **settings):
    texts = OneHotEncoder(**IGNORE) if texts is None else texts
    numbers = SimpleImputer() if numbers is None else numbers
    return ColumnTransformer([("texts", texts, TEXTS), ("numbers", numbers, NUMBERS + WHOLE)], **settings)


def linear(task):
    return Ridge() if task is Task.REGRESSION else LogisticRegression(max_iter=300)


def forest(task):
    kind = RandomForestRegressor if task is Task.REGRESSION else RandomForestClassifier
    return kind(n_estimators=12, max_depth=6, random_state=1)


def boosted(task, **settings):
    kind = HistGradientBoostingRegressor if task is Task.REGRESSION else HistGradientBoostingClassifier
    return kind(max_iter=12, random_state=1, **settings)


scalers = st.sampled_from(
    [
        StandardScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False), MinMaxScaler(),
        MinMaxScaler(feature_range=(-3, 2), clip=True), RobustScaler(), RobustScaler(with_centering=False),
        MaxAbsScaler(), "passthrough",
    ]
)  # fmt: skip


imputers = st.builds(
    SimpleImputer,
    strategy=st.sampled_from(["mean", "median", "most_frequent", "constant"]),
    add_indicator=st.booleans(),
)


text_encoders = st.one_of(
    st.builds(
        OneHotEncoder,
        handle_unknown=st.sampled_from(["ignore", "infrequent_if_exist", "error"]),
        drop=st.sampled_from([None, "first", "if_binary"]),
        min_frequency=st.sampled_from([None, 20, 0.05]),
        max_categories=st.sampled_from([None, 3]),
        sparse_output=st.booleans(),
    ),
    st.builds(
        OrdinalEncoder,
        handle_unknown=st.just("use_encoded_value"),
        unknown_value=st.sampled_from([-1, np.nan]),
        encoded_missing_value=st.sampled_from([-2, np.nan]),
        min_frequency=st.sampled_from([None, 15]),
    ),
    st.builds(TargetEncoder, cv=st.just(KFold(5, shuffle=True, random_state=0)), smooth=st.sampled_from(["auto", 5.0])),
)
