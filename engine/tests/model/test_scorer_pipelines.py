"""The usual parts of a pipeline, compiled, give scikit-learn's scores."""

import math

import numpy as np
import pytest
from scorer_pipelines import (
    IGNORE,
    TASKS,
    UNKNOWN,
    boosted,
    check,
    columns,
    fitted,
    forest,
    linear,
)
from scorer_samples import TEXTS, assert_equal, houses, signature, target
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif, f_regression
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import (
    PoissonRegressor,
    Ridge,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mergeline.params import Task
from mergeline.scorer.compiling import Refusal, compile_scorer


class TestParts:
    """Each part once, on purpose: chance may not draw it."""

    @pytest.mark.parametrize("task", TASKS)
    def test_linear_models_forests_and_boosting_of_each_task(self, task):
        for model in (linear, forest, boosted):
            check(make_pipeline(columns(), model(task)), task)

    @pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
    def test_ensembles_bayes_and_networks_of_classes(self, task):
        tree = DecisionTreeClassifier(max_depth=3, random_state=0)
        network = MLPClassifier(hidden_layer_sizes=(5, 4), max_iter=20, random_state=0)
        dense = columns(OneHotEncoder(**IGNORE, sparse_output=False))
        for model in (
            BaggingClassifier(tree, n_estimators=4, max_features=0.7, random_state=0),
            AdaBoostClassifier(tree, n_estimators=4, random_state=0),
            VotingClassifier(
                [("one", tree), ("two", ExtraTreesClassifier(3, random_state=0))], voting="soft", weights=[1, 2]
            ),
            GaussianNB(),
            make_pipeline(StandardScaler(), network),
        ):
            check(make_pipeline(dense, model), task)

    def test_ensembles_and_networks_of_numbers(self):
        tree = DecisionTreeRegressor(max_depth=3, random_state=0)
        network = MLPRegressor(hidden_layer_sizes=(6,), activation="tanh", max_iter=20, random_state=0)
        for model in (
            BaggingRegressor(tree, n_estimators=4, random_state=0),
            VotingRegressor([("one", Ridge()), ("two", Ridge(10.0))], weights=[3, 1]),
            make_pipeline(StandardScaler(with_mean=False), network),
        ):
            check(make_pipeline(columns(), model), Task.REGRESSION)

    def test_a_vote_of_models_with_other_links_is_left_to_scikit_learn(self):
        votes = VotingClassifier([("one", linear(Task.BINARY)), ("two", forest(Task.BINARY))], voting="soft")
        pipeline = fitted(make_pipeline(columns(), votes), houses(), Task.BINARY)
        found = compile_scorer(pipeline, signature(Task.BINARY))
        assert isinstance(found, Refusal)
        assert "no plain sum" in found.reason

    def test_the_positive_class_may_be_the_first(self):
        for model in (linear, forest, boosted):
            check(make_pipeline(columns(), model(Task.BINARY)), Task.BINARY, positive=False)

    @pytest.mark.parametrize("task", TASKS)
    def test_boosting_with_its_own_categories(self, task):
        check(boosted(task, categorical_features=TEXTS), task)

    def test_boosting_with_categories_that_are_numbers(self):
        check(
            make_pipeline(columns(OrdinalEncoder()), boosted(Task.BINARY, categorical_features=[0, 1, 5])), Task.BINARY
        )

    def test_more_one_hot_columns_than_are_laid_out_one_by_one(self):
        rng = np.random.default_rng(0)
        frame = houses(2000).assign(town=rng.choice([f"street {number}" for number in range(150)], 2000))
        frame["town"] = frame["town"].astype("str")
        many = target(frame, Task.REGRESSION) + frame["town"].str.len() + (frame["town"] < "street 7")
        pipeline = make_pipeline(columns(), RandomForestRegressor(n_estimators=10, random_state=0)).fit(frame, many)
        scorer = assert_equal(pipeline, signature(Task.REGRESSION), frame)
        empty = (None, math.nan, math.nan, None, math.nan, math.nan, math.nan)
        assert scorer.encode([empty]).shape[1] < 20

    @pytest.mark.parametrize(
        "encoder", [OneHotEncoder(**IGNORE), OrdinalEncoder(unknown_value=-1, **UNKNOWN), TargetEncoder()]
    )
    def test_an_encoder_of_numbers(self, encoder):
        parts = [("texts", OneHotEncoder(**IGNORE), TEXTS), ("numbers", encoder, ["age", "rooms", "new"])]
        pipeline = make_pipeline(ColumnTransformer(parts), SimpleImputer(), linear(Task.BINARY))
        check(pipeline, Task.BINARY)

    def test_imputed_texts(self):
        for strategy in ("most_frequent", "constant"):
            texts = make_pipeline(SimpleImputer(strategy=strategy), OneHotEncoder(**IGNORE))
            check(make_pipeline(columns(texts), linear(Task.BINARY)), Task.BINARY)

    def test_target_encoding_of_several_classes(self):
        for model in (linear, boosted):
            check(make_pipeline(columns(TargetEncoder()), model(Task.MULTICLASS)), Task.MULTICLASS)

    def test_columns_chosen_by_type_pattern_mask_and_place(self):
        transformer = ColumnTransformer(
            [
                ("numbers", SimpleImputer(), make_column_selector(dtype_include="number")),
                ("texts", OneHotEncoder(**IGNORE), make_column_selector(pattern="colour|town")),
                ("mask", MissingIndicator(features="all"), [False, True, True, False, True, False, False]),
                ("places", "passthrough", slice(5, 6)),
            ],
            remainder="drop",
            transformer_weights={"texts": 0.5},
        )
        for model in (linear, forest):
            check(make_pipeline(transformer, model(Task.BINARY)), Task.BINARY)

    def test_what_is_left_over_may_pass_through(self):
        transformer = ColumnTransformer(
            [("texts", OrdinalEncoder(unknown_value=-1, **UNKNOWN), TEXTS)], remainder="passthrough"
        )
        check(make_pipeline(transformer, boosted(Task.BINARY)), Task.BINARY)

    def test_chosen_columns(self):
        for task, measure in ((Task.BINARY, f_classif), (Task.REGRESSION, f_regression)):
            select = SelectKBest(measure, k=5)
            check(make_pipeline(columns(), VarianceThreshold(0.01), select, linear(task)), task)

    def test_a_union_of_features(self):
        union = FeatureUnion([("plain", SimpleImputer()), ("scaled", make_pipeline(SimpleImputer(), MinMaxScaler()))])
        check(make_pipeline(columns(numbers=union), linear(Task.BINARY)), Task.BINARY)

    def test_functions_of_numpy(self):
        for function in (np.log1p, np.sqrt, np.exp, np.absolute):
            numbers = make_pipeline(SimpleImputer(), MinMaxScaler(clip=True), FunctionTransformer(function))
            for model in (linear, boosted):
                check(make_pipeline(columns(numbers=numbers), model(Task.REGRESSION)), Task.REGRESSION)

    def test_a_transformed_target(self):
        pipeline = make_pipeline(columns(), Ridge())
        target_too = TransformedTargetRegressor(pipeline, func=np.arcsinh, inverse_func=np.sinh)
        frame = houses()
        refusal = compile_scorer(fitted(target_too, frame, Task.REGRESSION), signature(Task.REGRESSION))
        assert isinstance(refusal, Refusal)
        assert "none of NumPy's functions" in refusal.reason
        positive = TransformedTargetRegressor(pipeline, func=np.cbrt, inverse_func=np.expm1, check_inverse=False)
        check(positive, Task.REGRESSION, frame)

    def test_counts_and_other_links(self):
        frame = houses()
        counts = np.round(np.exp(target(frame, Task.REGRESSION) / 3))
        for model in (PoissonRegressor(), HistGradientBoostingRegressor(loss="poisson", max_iter=10)):
            pipeline = make_pipeline(columns(), StandardScaler(with_mean=False), model).fit(frame, counts)
            assert_equal(pipeline, signature(Task.REGRESSION), frame)
