"""Reads fitted estimators: which sums they make of the features, and what they make of the sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.scorer.expressions import Column, Context, Feature, NotCompilableError, Op, Text, apply
from mergeline.scorer.link import Calibrator, Finish
from mergeline.scorer.transformers import kind_of, transform, ufunc_name
from mergeline.scorer.trees import Tree, read_boosted_tree, read_tree

if TYPE_CHECKING:
    from mergeline.scorer.operations import Floats


@dataclass(frozen=True)
class Linear:
    """Weighted sums: `weights` of shape (features, targets)."""

    features: tuple[Feature, ...]
    weights: Floats


@dataclass(frozen=True)
class Trees:
    """Sums over trees, each of which adds a leaf's values to the targets."""

    features: tuple[Feature, ...]
    trees: tuple[Tree, ...]


@dataclass(frozen=True)
class Fitted:
    """What an estimator computes: `base` plus sums, of shape (targets,), and what is made of them."""

    sums: Linear | Trees
    base: Floats
    finish: Finish
    decides: bool = False
    """Whether scikit-learn's `decision_function` gives the sums themselves."""


Reader = Callable[[Any, tuple[Feature, ...], Context], Fitted]

LINKS = {
    "IdentityLink": "identity",
    "LogLink": "exp",
    "LogitLink": "logit",
    "HalfLogitLink": "half_logit",
    "MultinomialLogit": "softmax",
}
"""scikit-learn's links, and what undoes them."""


def read_estimator(part: Any, columns: list[Column], context: Context) -> Fitted:
    """What a fitted estimator, or a pipeline that ends in one, makes of the columns.

    Raises:
        NotCompilableError: there is no exact form of it here.
    """
    kind = kind_of(part)
    if kind == "Pipeline":
        for _, step in part.steps[:-1]:
            columns = transform(step, columns, context)
        return read_estimator(part.steps[-1][1], columns, context)
    if kind == "CalibratedClassifierCV":
        return _calibrated(part, columns, context)
    if kind == "TransformedTargetRegressor":
        return _transformed(part, columns, context)
    reader = READERS.get(kind)
    if reader is None:
        raise NotCompilableError(f"{type(part).__name__} cannot be compiled", where="pipeline")
    if kind.startswith("HistGradientBoosting"):
        columns = _categories_first(part, columns, context)
    features = tuple(apply(column) for column in columns)
    expected = getattr(part, "n_features_in_", len(features))
    if expected != len(features):
        raise NotCompilableError(f"{kind} reads {expected} columns, {len(features)} reach it", where="pipeline")
    return reader(part, features, context)


def _linear(part: Any, features: tuple[Feature, ...], context: Context) -> Fitted:
    context.guard(features, nan_ok=False)
    weights = np.atleast_2d(np.asarray(part.coef_, dtype=np.float64)).T
    base = np.broadcast_to(np.asarray(part.intercept_, dtype=np.float64).ravel(), (weights.shape[1],)).copy()
    return Fitted(Linear(features, weights), base, Finish(_linear_link(part)), decides=True)


def _linear_link(part: Any) -> str:
    kind = kind_of(part)
    if kind == "SGDClassifier" and part.loss != "log_loss":
        raise NotCompilableError(f"its probabilities for the loss {part.loss!r} have no form here", where=kind)
    if kind == "SGDClassifier" and len(part.classes_) > 2:
        return "one_vs_rest"
    if hasattr(part, "classes_"):
        return "logit" if len(part.classes_) == 2 else "softmax"
    return LINKS[type(part._base_loss.link).__name__] if hasattr(part, "_base_loss") else "identity"


def _forest(part: Any, features: tuple[Feature, ...], context: Context) -> Fitted:
    """A decision tree or a forest: the mean of the leaves' class shares, or values."""
    members = [part] if hasattr(part, "tree_") else list(part.estimators_)
    if part.n_outputs_ != 1:
        raise NotCompilableError("it predicts several outputs", where=kind_of(part))
    features = _as_trees_read(members[0], features, context)
    classes = len(part.classes_) if hasattr(part, "classes_") else 1
    targets = 1 if classes <= 2 else classes
    trees = []
    for member in members:
        tree = read_tree(member.tree_, targets=classes, columns=slice(None))
        trees.append(tree if classes == targets else replace(tree, values=tree.values[:, 1:]))
    finish = Finish("identity", divisor=float(len(members)))
    return Fitted(Trees(features, tuple(trees)), np.zeros(targets), finish)


def _gradient_boosting(part: Any, features: tuple[Feature, ...], context: Context) -> Fitted:
    if not (isinstance(part.init_, str) or kind_of(part.init_).startswith("Dummy")):
        raise NotCompilableError("it begins from another estimator", where=kind_of(part))
    features = _as_trees_read(None, features, context)
    targets = part.estimators_.shape[1]
    trees = tuple(
        read_tree(member.tree_, targets=targets, columns=np.array([target]), factor=part.learning_rate)
        for stage in part.estimators_
        for target, member in enumerate(stage)
    )
    base = part._raw_predict_init(np.zeros((1, len(features)), dtype=np.float32)).ravel()
    return Fitted(Trees(features, trees), base, Finish(_loss_link(part)), decides=True)


def _hist_gradient_boosting(part: Any, features: tuple[Feature, ...], context: Context) -> Fitted:
    del context  # it takes missing and infinite values as they come
    known, known_row = part._bin_mapper.make_known_categories_bitsets()
    targets = part.n_trees_per_iteration_
    trees = tuple(
        read_boosted_tree(predictor, target=target, targets=targets, known=known, known_row=known_row)
        for stage in part._predictors
        for target, predictor in enumerate(stage)
    )
    base = np.asarray(part._baseline_prediction, dtype=np.float64).ravel()
    return Fitted(Trees(features, trees), base, Finish(_loss_link(part)), decides=True)


def _loss_link(part: Any) -> str:
    return LINKS[type(part._loss.link).__name__]


def _as_trees_read(member: Any, features: tuple[Feature, ...], context: Context) -> tuple[Feature, ...]:
    """The features as `sklearn.tree` reads them: in single precision, finite, missing only where that was learned."""
    read = tuple(apply(feature, Op("float32")) for feature in features)
    nan_ok = member is not None and bool(member._support_missing_values(np.zeros((1, len(features)))))
    context.guard(read, nan_ok=nan_ok)
    return read


def _categories_first(part: Any, columns: list[Column], context: Context) -> list[Column]:
    """The columns as gradient boosting reads them: the categories, as codes, before the others."""
    inside = part._preprocessor
    if inside is None:
        return columns
    chosen = [columns[place] for place in np.flatnonzero(part.is_categorical_)]
    others = [columns[place] for place in np.flatnonzero(~part.is_categorical_)]
    if any(isinstance(column, Text) for column in others):
        raise NotCompilableError("text reaches it as a number", where=kind_of(part))
    return transform(inside.named_transformers_["encoder"], chosen, context) + others


def _calibrated(part: Any, columns: list[Column], context: Context) -> Fitted:
    """Calibrated classifiers: their targets side by side, each group with its own calibration."""
    folds = [(inner, read_estimator(inner.estimator, columns, context)) for inner in part.calibrated_classifiers_]
    first = folds[0][1]
    calibrators = []
    for inner, fitted in folds:
        if inner.method not in {"sigmoid", "isotonic"}:
            raise NotCompilableError(
                f"the calibration {inner.method!r} has no form here", where="CalibratedClassifierCV"
            )
        if len(inner.estimator.classes_) != len(part.classes_) or fitted.finish.calibrators:
            raise NotCompilableError("a part of it saw only some of the classes", where="CalibratedClassifierCV")
        calibrators += [_calibrator(calibrator) for calibrator in inner.calibrators]
    # What scikit-learn calibrates: the decision where there is one, else the probability.
    inside = Finish("identity") if first.decides else first.finish
    sums = _side_by_side([fitted.sums for _, fitted in folds])
    base = np.concatenate([fitted.base for _, fitted in folds])
    return Fitted(sums, base, replace(inside, calibrators=tuple(calibrators), folds=len(folds)))


def _calibrator(part: Any) -> Calibrator:
    if kind_of(part) == "_SigmoidCalibration":
        return Calibrator("sigmoid", (float(part.a_), float(part.b_)), ())
    if part.out_of_bounds != "clip":
        raise NotCompilableError("an isotonic calibration without bounds", where="CalibratedClassifierCV")
    return Calibrator(
        "isotonic",
        tuple(float(value) for value in part.X_thresholds_),
        tuple(float(value) for value in part.y_thresholds_),
    )


def _side_by_side(parts: Sequence[Linear | Trees]) -> Linear | Trees:
    features = tuple(feature for part in parts for feature in part.features)
    linear = [part for part in parts if isinstance(part, Linear)]
    forests = [part for part in parts if isinstance(part, Trees)]
    if linear and forests:
        raise NotCompilableError("calibrated estimators of several kinds", where="CalibratedClassifierCV")
    if linear:
        from scipy.linalg import block_diag

        return Linear(features, block_diag(*(part.weights for part in linear)))
    widths = [part.trees[0].values.shape[1] for part in forests]
    trees = []
    shift = 0
    for place, forest in enumerate(forests):
        around = (sum(widths[:place]), sum(widths[place + 1 :]))
        for tree in forest.trees:
            values = np.pad(tree.values, ((0, 0), around))
            trees.append(replace(tree, values=values, feature=np.where(tree.left < 0, 0, tree.feature + shift)))
        shift += len(forest.features)
    return Trees(features, tuple(trees))


def _transformed(part: Any, columns: list[Column], context: Context) -> Fitted:
    fitted = read_estimator(part.regressor_, columns, context)
    inverse = part.transformer_
    if kind_of(inverse) != "FunctionTransformer" or fitted.finish.inverse:
        raise NotCompilableError(
            "its target is not transformed by a plain function", where="TransformedTargetRegressor"
        )
    if inverse.inverse_func is None:
        return fitted
    name = ufunc_name(inverse.inverse_func)
    if name is None or inverse.inv_kw_args:
        raise NotCompilableError("its inverse is none of NumPy's functions", where="TransformedTargetRegressor")
    return replace(fitted, finish=replace(fitted.finish, inverse=name))


READERS: dict[str, Reader] = {
    **dict.fromkeys(
        (
            "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "GammaRegressor", "HuberRegressor", "Lars",
            "LarsCV", "Lasso", "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "LinearRegression", "LinearSVR",
            "LogisticRegression", "LogisticRegressionCV", "OrthogonalMatchingPursuit", "PoissonRegressor",
            "QuantileRegressor", "Ridge", "RidgeCV", "SGDClassifier", "SGDRegressor", "TheilSenRegressor",
            "TweedieRegressor", "LinearDiscriminantAnalysis",
        ),
        _linear,
    ),
    **dict.fromkeys(
        (
            "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor",
            "ExtraTreesClassifier", "ExtraTreesRegressor", "RandomForestClassifier", "RandomForestRegressor",
        ),
        _forest,
    ),
    "GradientBoostingClassifier": _gradient_boosting,
    "GradientBoostingRegressor": _gradient_boosting,
    "HistGradientBoostingClassifier": _hist_gradient_boosting,
    "HistGradientBoostingRegressor": _hist_gradient_boosting,
}  # fmt: skip
"""How each estimator is read, by the name of its class."""
