"""Any pipeline, compiled, gives scikit-learn's scores: what takes seconds for each case."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scorer_pipelines import TASKS, boosted, check, columns, fitted, forest, imputers, linear, scalers, text_encoders
from scorer_samples import NUMBERS, TEXTS, WHOLE, assert_equal, houses, signature
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
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
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    HuberRegressor,
    Lasso,
    LinearRegression,
    SGDClassifier,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mergeline.params import Task


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

    def test_an_encoder_that_refuses_what_it_never_saw(self):
        parts = [("texts", OneHotEncoder(), TEXTS), ("numbers", SimpleImputer(), NUMBERS)]
        for task in (Task.BINARY, Task.REGRESSION):
            for model in (linear, boosted):
                check(make_pipeline(ColumnTransformer(parts, sparse_threshold=0), model(task)), task)

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

    def test_a_selection_that_lets_infinite_products_pass(self):
        numbers = make_pipeline(SimpleImputer(), PolynomialFeatures(2), VarianceThreshold())
        for model in (boosted, forest, linear):
            check(make_pipeline(columns(numbers=numbers, texts=TargetEncoder()), model(Task.BINARY)), Task.BINARY)

    @pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
    @pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
    def test_calibrated_classifiers(self, method, task):
        for model in (linear(task), boosted(task), forest(task), make_pipeline(StandardScaler(), linear(task))):
            check(make_pipeline(columns(), CalibratedClassifierCV(model, method=method, cv=3)), task)

    def test_trees_that_are_a_single_leaf(self):
        for task in TASKS:
            kind = DecisionTreeRegressor if task is Task.REGRESSION else DecisionTreeClassifier
            check(make_pipeline(columns(), kind(min_samples_leaf=300)), task)
        check(make_pipeline(columns(), boosted(Task.MULTICLASS, min_samples_leaf=390)), Task.MULTICLASS)
        mixed = GradientBoostingClassifier(n_estimators=12, min_samples_leaf=120)
        check(make_pipeline(columns(), mixed), Task.MULTICLASS)
