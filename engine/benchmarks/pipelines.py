"""Which of 40 common pipelines are compiled, which scikit-learn serves, and which are refused.

    python benchmarks/pipelines.py

Each is fitted on 1,500 rows of numbers with gaps and categories, stored, and built as training does it; what compiles
was proven equal to scikit-learn within 1e-9 on the data and on hard cases. Nothing is written.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectFromModel, SelectKBest, f_classif
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from mergeline.dataset import Kind
from mergeline.model.artifact import dump_pipeline
from mergeline.model.fit import for_serving
from mergeline.model.trust import untrusted
from mergeline.params import Task
from mergeline.scorer.compiling import build_scorer
from mergeline.scorer.pipeline import to_features
from mergeline.scorer.signature import Column, Output, Signature
from mergeline.scorer.stored import SCORER_FILE, ScorerDocument

NUMBERS, TEXTS = ["age", "rooms", "income", "distance"], ["town", "kind"]
RATES = {"random_state": 0}


def rows(count: int = 1500) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, count).astype(float),
            "rooms": rng.integers(1, 9, count).astype(float),
            "income": rng.gamma(2, 20, count),
            "distance": rng.exponential(5, count),
        }
    ).mask(rng.random((count, 4)) < 0.03)
    frame["town"] = rng.choice(["ulm", "kiel", "jena", "bonn"], count)
    frame["kind"] = rng.choice(["a", "b", "c"], count)
    signal = frame["income"].fillna(40) / 20 - frame["rooms"].fillna(4) / 4 + (frame["town"] == "ulm")
    frame["value"] = np.exp(signal / 3) + rng.normal(0, 0.1, count).clip(-0.2)
    frame["bought"] = signal + rng.normal(0, 1, count) > 1
    frame["class"] = pd.cut(signal, 3, labels=["low", "middle", "high"]).astype(str)
    return frame


def columns(*numeric: Any, encoder: Any = None) -> Any:
    encode = encoder or OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), *(numeric or (StandardScaler(),))), NUMBERS), (encode, TEXTS)
    )


def codes() -> Any:
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_column_transformer((encode, TEXTS), remainder="passthrough")


def after(*steps: Any) -> Any:
    return make_pipeline(columns(), *steps)


def common() -> dict[str, tuple[Task, Any]]:
    """The list: what people write first, by the words that they would call it."""
    logistic, tree = LogisticRegression(max_iter=1000), DecisionTreeClassifier(max_depth=5, **RATES)
    forest = RandomForestClassifier(20, max_depth=6, **RATES)
    binary = {
        "logistic regression": after(logistic),
        "logistic regression, robust scaling": make_pipeline(columns(RobustScaler()), logistic),
        "logistic regression, 0 to 1": make_pipeline(columns(MinMaxScaler()), logistic),
        "logistic regression, polynomials": make_pipeline(columns(StandardScaler(), PolynomialFeatures(2)), logistic),
        "logistic regression, splines": make_pipeline(columns(SplineTransformer()), logistic),
        "logistic regression, bins": make_pipeline(
            columns(KBinsDiscretizer(quantile_method="averaged_inverted_cdf")), logistic
        ),
        "logistic regression, logarithms": make_pipeline(columns(FunctionTransformer(np.log1p)), logistic),
        "logistic regression, power transform": make_pipeline(columns(PowerTransformer()), logistic),
        "logistic regression, quantiles": make_pipeline(
            columns(QuantileTransformer(n_quantiles=50, **RATES)), logistic
        ),
        "logistic regression, target encoding": make_pipeline(
            columns(encoder=TargetEncoder(cv=StratifiedKFold(5, shuffle=True, **RATES))), logistic
        ),
        "logistic regression, best 4 columns": after(SelectKBest(f_classif, k=4), logistic),
        "logistic regression, columns by a forest": after(SelectFromModel(forest), logistic),
        "logistic regression, PCA": after(PCA(3), logistic),
        "logistic regression, neighbours impute": make_pipeline(
            make_column_transformer((KNNImputer(), NUMBERS)), StandardScaler(), logistic
        ),
        "logistic regression, grid search": after(
            GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1.0]}, cv=3)
        ),
        "SGD, log loss": after(SGDClassifier(loss="log_loss", **RATES)),
        "linear discriminant": after(LinearDiscriminantAnalysis()),
        "decision tree": make_pipeline(codes(), tree),
        "random forest": make_pipeline(codes(), forest),
        "extra trees": make_pipeline(codes(), ExtraTreesClassifier(20, max_depth=6, **RATES)),
        "gradient boosting": make_pipeline(columns(), GradientBoostingClassifier(n_estimators=20, **RATES)),
        "histogram gradient boosting": make_pipeline(codes(), HistGradientBoostingClassifier(max_iter=20, **RATES)),
        "histogram gradient boosting, categories": make_pipeline(
            codes(), HistGradientBoostingClassifier(max_iter=20, categorical_features=[0, 1], **RATES)
        ),
        "histogram gradient boosting, early stopping": make_pipeline(
            codes(), HistGradientBoostingClassifier(max_iter=20, early_stopping=True, scoring="roc_auc", **RATES)
        ),
        "calibrated forest": make_pipeline(codes(), CalibratedClassifierCV(forest, cv=3)),
        "calibrated by isotonic regression": after(CalibratedClassifierCV(logistic, method="isotonic", cv=3)),
        "AdaBoost": after(AdaBoostClassifier(n_estimators=10, **RATES)),
        "bagging": after(BaggingClassifier(tree, n_estimators=10, **RATES)),
        "support vectors": after(CalibratedClassifierCV(SVC(), cv=3, ensemble=False)),
        "nearest neighbours": after(KNeighborsClassifier(15)),
        "naive Bayes": after(GaussianNB()),
        "neural network": after(MLPClassifier((16,), max_iter=100, **RATES)),
        "voting": after(VotingClassifier([("linear", logistic), ("trees", forest)], voting="soft")),
        "stacking": after(StackingClassifier([("linear", logistic), ("trees", forest)], cv=3)),
    }
    numbers = {
        "linear regression": after(LinearRegression()),
        "ridge of a logarithm": after(TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)),
        "lasso and elastic net, voting": after(VotingRegressor([("lasso", Lasso(0.01)), ("net", ElasticNet(0.01))])),
        "random forest, a number": make_pipeline(codes(), RandomForestRegressor(20, max_depth=6, **RATES)),
        "histogram gradient boosting, a number": make_pipeline(
            codes(), HistGradientBoostingRegressor(max_iter=20, **RATES)
        ),
        "neural network, a number": after(MLPRegressor(hidden_layer_sizes=(16,), max_iter=100, **RATES)),
    }
    return {name: (Task.BINARY, made) for name, made in binary.items()} | {
        name: (Task.REGRESSION, made) for name, made in numbers.items()
    }


def judge(task: Task, pipeline: Any, frame: pd.DataFrame) -> tuple[str, str]:
    """How a pipeline is served, and why."""
    kinds = {**dict.fromkeys(NUMBERS, Kind.NUMBER), **dict.fromkeys(TEXTS, Kind.CATEGORY)}
    described = tuple(Column(name=name, kind=kind, nullable=kind is Kind.NUMBER) for name, kind in kinds.items())
    output = Output(task=task, target="value")
    if task is Task.BINARY:
        output = Output(task=task, target="bought", classes=(False, True), positive=True, threshold=0.5)
    signature = Signature(name="bench", columns=described, output=output)
    features = to_features(frame, described)
    try:
        fitted = for_serving(pipeline.fit(features, frame[output.target].to_numpy()))
        unknown = untrusted(skops.io.get_untrusted_types(data=dump_pipeline(fitted)), ())
    except Exception as error:  # noqa: BLE001 - whatever refuses it is what to print
        return "refused", str(error).splitlines()[0][:100]
    if unknown:
        return "refused", ", ".join(unknown)
    files = build_scorer(fitted, signature, features, features.head(300))
    document = ScorerDocument.model_validate_json(files[SCORER_FILE])
    return ("compiled", "") if document.program else ("scikit-learn", str(document.reason)[:100])


def main() -> None:
    frame, counts = rows(), Counter[str]()
    listed = common()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (task, pipeline) in listed.items():
            outcome, why = judge(task, pipeline, frame)
            counts[outcome] += 1
            print(f"{outcome:<13} {name:<45} {why}", flush=True)
    print(f"{len(listed)} pipelines: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))


if __name__ == "__main__":
    main()
