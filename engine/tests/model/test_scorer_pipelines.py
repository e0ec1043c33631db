"""Compiled pipelines give scikit-learn's scores, whatever they are made of."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scorer_samples import NUMBERS, TEXTS, WHOLE, assert_equal, houses, signature, target
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif, f_regression
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mergeline.params import Task
from mergeline.scorer.compiling import Refusal, compile_scorer

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
    st.builds(TargetEncoder, random_state=st.just(0), smooth=st.sampled_from(["auto", 5.0])),
)


@st.composite
def number_steps(draw, gaps):
    """Imputing and scaling in any order, and perhaps a function, products and a selection."""
    steps = [draw(imputers)] if not gaps or draw(st.booleans()) else []
    steps.insert(draw(st.integers(0, len(steps))), draw(scalers))
    if draw(st.booleans()):
        steps.append(FunctionTransformer(draw(st.sampled_from([np.cbrt, np.tanh, np.square, None]))))
    if isinstance(steps[0], SimpleImputer) and draw(st.integers(0, 3)) == 0:
        steps.append(PolynomialFeatures(draw(st.sampled_from([2, 3])), interaction_only=draw(st.booleans())))
        steps.append(VarianceThreshold())
    return make_pipeline(*steps)


@st.composite
def models(draw, task):
    regression, binary = task is Task.REGRESSION, task is Task.BINARY
    name = draw(st.sampled_from(["linear", "tree", "forest", "extra", "gradient", "hist", "hist", "other"]))
    depth = draw(st.sampled_from([1, 3, 7, None]))
    if name == "linear":
        return linear(task)
    if name == "other":
        if regression:
            return draw(st.sampled_from([Lasso(0.1), ElasticNet(0.05), LinearRegression(), HuberRegressor()]))
        return SGDClassifier(loss="log_loss", random_state=0) if binary else LinearDiscriminantAnalysis()
    kinds = {
        "tree": (DecisionTreeRegressor, DecisionTreeClassifier),
        "forest": (RandomForestRegressor, RandomForestClassifier),
        "extra": (ExtraTreesRegressor, ExtraTreesClassifier),
        "gradient": (GradientBoostingRegressor, GradientBoostingClassifier),
        "hist": (HistGradientBoostingRegressor, HistGradientBoostingClassifier),
    }
    kind = kinds[name][0 if regression else 1]
    sizes = {"tree": {}, "forest": {"n_estimators": 5}, "extra": {"n_estimators": 5}, "gradient": {"n_estimators": 6},
             "hist": {"max_iter": 6}}[name]  # fmt: skip
    if name == "gradient" and binary:
        sizes["loss"] = draw(st.sampled_from(["log_loss", "exponential"]))
    return kind(max_depth=depth, random_state=0, **sizes)


@st.composite
def pipelines(draw):
    task = draw(st.sampled_from(TASKS))
    model = draw(models(task))
    takes_gaps = type(model).__name__.startswith(("Hist", "DecisionTree", "RandomForest", "ExtraTrees"))
    texts = draw(text_encoders)
    numbers = draw(number_steps(takes_gaps))
    if isinstance(texts, OrdinalEncoder) and not takes_gaps:
        texts = make_pipeline(texts, SimpleImputer())
    parts = [("texts", texts, TEXTS), ("numbers", numbers, NUMBERS), ("whole", draw(scalers), WHOLE)]
    order = draw(st.permutations(parts))
    names = draw(st.booleans())
    transformer = ColumnTransformer(order, sparse_threshold=0 if names else 0.3)
    if names and not any(getattr(part, "sparse_output", False) for part in [texts]):
        transformer.set_output(transform="pandas")
    return task, Pipeline([("columns", transformer), ("model", model)])


class TestAnyPipeline:
    @settings(max_examples=12, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
    @given(pipelines(), st.integers(0, 3), st.booleans())
    def test_a_pipeline_of_any_parts_is_equal_to_its_compiled_form(self, drawn, seed, positive):
        task, pipeline = drawn
        frame = houses(250, seed)
        try:
            fitted(pipeline, frame, task)
        except (ValueError, TypeError):
            return  # scikit-learn itself does not take this combination
        assert_equal(pipeline, signature(task, positive), frame)


class TestParts:
    """Each part once, on purpose: chance may not draw it."""

    @pytest.mark.parametrize("task", TASKS)
    def test_linear_models_forests_and_boosting_of_each_task(self, task):
        for model in (linear, forest, boosted):
            check(make_pipeline(columns(), model(task)), task)

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

    def test_an_encoder_that_refuses_what_it_never_saw(self):
        parts = [("texts", OneHotEncoder(), TEXTS), ("numbers", SimpleImputer(), NUMBERS)]
        for task in (Task.BINARY, Task.REGRESSION):
            for model in (linear, boosted):
                check(make_pipeline(ColumnTransformer(parts, sparse_threshold=0), model(task)), task)

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

    def test_numbers_in_single_precision_and_what_they_cannot_hold(self):
        for task in TASKS:
            for kind in (ExtraTreesRegressor, GradientBoostingRegressor) if task is Task.REGRESSION else (
                ExtraTreesClassifier, GradientBoostingClassifier,
            ):  # fmt: skip
                check(
                    make_pipeline(columns(), StandardScaler(with_mean=False), kind(n_estimators=8, random_state=0)),
                    task,
                )

    def test_products_of_columns(self):
        numbers = make_pipeline(SimpleImputer(), PolynomialFeatures(3), StandardScaler())
        for model in (linear, boosted, forest):
            check(make_pipeline(columns(numbers=numbers), model(Task.BINARY)), Task.BINARY)

    def test_chosen_columns(self):
        for task, measure in ((Task.BINARY, f_classif), (Task.REGRESSION, f_regression)):
            select = SelectKBest(measure, k=5)
            check(make_pipeline(columns(), VarianceThreshold(0.01), select, linear(task)), task)

    def test_a_selection_that_lets_infinite_products_pass(self):
        numbers = make_pipeline(SimpleImputer(), PolynomialFeatures(2), VarianceThreshold())
        for model in (boosted, forest, linear):
            check(make_pipeline(columns(numbers=numbers, texts=TargetEncoder()), model(Task.BINARY)), Task.BINARY)

    def test_a_union_of_features(self):
        union = FeatureUnion([("plain", SimpleImputer()), ("scaled", make_pipeline(SimpleImputer(), MinMaxScaler()))])
        check(make_pipeline(columns(numbers=union), linear(Task.BINARY)), Task.BINARY)

    def test_functions_of_numpy(self):
        for function in (np.log1p, np.sqrt, np.exp, np.absolute):
            numbers = make_pipeline(SimpleImputer(), MinMaxScaler(clip=True), FunctionTransformer(function))
            for model in (linear, boosted):
                check(make_pipeline(columns(numbers=numbers), model(Task.REGRESSION)), Task.REGRESSION)

    @pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
    @pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
    def test_calibrated_classifiers(self, method, task):
        for model in (linear(task), boosted(task), forest(task), make_pipeline(StandardScaler(), linear(task))):
            check(make_pipeline(columns(), CalibratedClassifierCV(model, method=method, cv=3)), task)

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

    def test_trees_that_are_a_single_leaf(self):
        for task in TASKS:
            kind = DecisionTreeRegressor if task is Task.REGRESSION else DecisionTreeClassifier
            check(make_pipeline(columns(), kind(min_samples_leaf=300)), task)
        check(make_pipeline(columns(), boosted(Task.MULTICLASS, min_samples_leaf=390)), Task.MULTICLASS)
        mixed = GradientBoostingClassifier(n_estimators=12, min_samples_leaf=120)
        check(make_pipeline(columns(), mixed), Task.MULTICLASS)
