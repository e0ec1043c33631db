"""Reads fitted estimators: which sums they make of the features, and what they make of the sums."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.scorer.expressions import Column, Context, Feature, NotCompilableError, Op, Text, apply
from mergeline.scorer.forest import Tree, read_boosted_tree, read_tree
from mergeline.scorer.program import Calibrator, Finish, Layer
from mergeline.scorer.transformers import kind_of, transform, ufunc_name

if TYPE_CHECKING:
    from mergeline.scorer.program import Floats


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
    if kind in {"VotingClassifier", "VotingRegressor"}:
        return _voting(part, columns, context)
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
    """A decision tree, a forest, or bagged trees, each of which reads some features: the mean of the leaves' values.

    Of a classifier these are class shares.
    """
    members = [part] if hasattr(part, "tree_") else list(part.estimators_)
    classes = len(part.classes_) if hasattr(part, "classes_") else 1
    if getattr(part, "n_outputs_", 1) != 1:
        raise NotCompilableError("it predicts several outputs", where=kind_of(part))
    if not all(hasattr(member, "tree_") for member in members):
        raise NotCompilableError("its members are no trees", where=kind_of(part))
    if any(classes != len(getattr(member, "classes_", [0])) for member in members):
        raise NotCompilableError("a member saw only some of the classes", where=kind_of(part))
    read = getattr(part, "estimators_features_", [range(len(features))] * len(members))
    features = _as_trees_read(members[0], features, context, {int(place) for chosen in read for place in chosen})
    trees = []
    for member, chosen in zip(members, read, strict=True):
        tree = read_tree(member.tree_, targets=classes, columns=slice(None))
        values = tree.values[:, 1:] if classes == 2 else tree.values
        feature = np.where(tree.left < 0, 0, np.asarray(chosen)[np.maximum(tree.feature, 0)])
        trees.append(replace(tree, values=values, feature=feature))
    finish = Finish("identity", divisor=float(len(trees)))
    return Fitted(Trees(features, tuple(trees)), np.zeros(1 if classes <= 2 else classes), finish)


def _ada_boost(part: Any, features: tuple[Feature, ...], context: Context) -> Fitted:
    """Trees that vote for one class each (SAMME: Zhu, Zou, Rosset, Hastie, 2009)."""
    if not all(hasattr(member, "tree_") for member in part.estimators_):
        raise NotCompilableError("its members are no trees", where=kind_of(part))
    features = _as_trees_read(None, features, context)
    classes, total = len(part.classes_), part.estimator_weights_.sum()
    trees = []
    for member, weight in zip(part.estimators_, part.estimator_weights_, strict=False):
        tree = read_tree(member.tree_, targets=len(member.classes_), columns=slice(None))
        votes = np.equal.outer(member.classes_[tree.values.argmax(axis=1)], part.classes_)
        share = weight / total
        if classes == 2:
            values = np.where(votes[:, 1:], 2 * share, -2 * share)
        else:
            values = np.where(votes, share, -share / (classes - 1)) / (classes - 1)
        trees.append(replace(tree, values=values))
    targets = 1 if classes == 2 else classes
    return Fitted(Trees(features, tuple(trees)), np.zeros(targets), Finish("logit" if classes == 2 else "softmax"))


def _gaussian_naive_bayes(part: Any, features: tuple[Feature, ...], context: Context) -> Fitted:
    """Squared distances from each class's means."""
    context.guard(features, nan_ok=False)
    logs = np.log(part.class_prior_) - 0.5 * np.log(2 * np.pi * part.var_).sum(axis=1)
    apart, weights = [], []
    for place, (means, variances) in enumerate(zip(part.theta_, part.var_, strict=True)):
        for feature, mean, variance in zip(features, means, variances, strict=True):
            apart.append(apply(feature, Op("subtract", float(mean)), Op("square")))
            weights.append(np.where(np.arange(len(logs)) == place, -0.5 / variance, 0.0))
    matrix = np.array(weights)
    if len(logs) == 2:  # one score: what speaks for the second class against the first
        return Fitted(Linear(tuple(apart), matrix[:, 1:] - matrix[:, :1]), logs[1:] - logs[:1], Finish("logit"))
    return Fitted(Linear(tuple(apart), matrix), logs, Finish("softmax"))


def _neural_network(part: Any, features: tuple[Feature, ...], context: Context) -> Fitted:
    context.guard(features, nan_ok=False)
    links = {"identity": "identity", "logistic": "logit", "softmax": "softmax"}
    weights = [np.asarray(matrix, dtype=np.float64) for matrix in part.coefs_]
    shifts = [np.asarray(shift, dtype=np.float64) for shift in part.intercepts_]
    if part.out_activation_ not in links:
        raise NotCompilableError(f"its answers are made by {part.out_activation_!r}", where=kind_of(part))
    layers = tuple(Layer(matrix, shift) for matrix, shift in zip(weights[1:], shifts[1:], strict=True))
    finish = Finish(links[part.out_activation_], layers=layers, activation=part.activation)
    return Fitted(Linear(features, weights[0]), shifts[0], finish)


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


def _as_trees_read(
    member: Any, features: tuple[Feature, ...], context: Context, used: Collection[int] | None = None
) -> tuple[Feature, ...]:
    """The features as `sklearn.tree` reads them: in single precision, finite, missing only where that was learned."""
    read = tuple(apply(feature, Op("float32")) for feature in features)
    nan_ok = member is not None and bool(member._support_missing_values(np.zeros((1, len(features)))))
    context.guard((one for place, one in enumerate(read) if used is None or place in used), nan_ok=nan_ok)
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
        if fitted.finish.layers:
            raise NotCompilableError("it calibrates a neural network", where="CalibratedClassifierCV")
        if len(inner.estimator.classes_) != len(part.classes_) or fitted.finish.calibrators:
            raise NotCompilableError("a part of it saw only some of the classes", where="CalibratedClassifierCV")
        calibrators += [_calibrator(calibrator) for calibrator in inner.calibrators]
    # What scikit-learn calibrates: the decision where there is one, else the probability.
    inside = Finish("identity") if first.decides else first.finish
    sums = _side_by_side([fitted.sums for _, fitted in folds])
    base = np.concatenate([fitted.base for _, fitted in folds])
    return Fitted(sums, base, replace(inside, calibrators=tuple(calibrators), folds=len(folds)))


def _voting(part: Any, columns: list[Column], context: Context) -> Fitted:
    """The weighted mean of models whose answers are sums themselves."""
    kind = kind_of(part)
    if getattr(part, "voting", "soft") != "soft":
        raise NotCompilableError("it counts votes, and has no probabilities", where=kind)
    members = [read_estimator(member, columns, context) for member in part.estimators_]
    weights = np.asarray(part._weights_not_none or np.ones(len(members)), dtype=np.float64)
    if any(replace(member.finish, divisor=1.0) != Finish("identity") for member in members):
        raise NotCompilableError("what its members answer is no plain sum", where=kind)
    scales = weights / np.array([member.finish.divisor for member in members])
    finish = Finish("identity", divisor=float(weights.sum()))  # last, so that sums overflow where scikit-learn's do
    base = sum((scale * member.base for scale, member in zip(scales, members, strict=True)), np.zeros(1))
    linear = [(one.sums, scale) for one, scale in zip(members, scales, strict=True) if isinstance(one.sums, Linear)]
    if len(linear) == len(members):
        features = tuple(feature for sums, _ in linear for feature in sums.features)
        return Fitted(Linear(features, np.vstack([sums.weights * scale for sums, scale in linear])), base, finish)
    if linear:
        raise NotCompilableError("its members are of several kinds", where=kind)
    forests = [one.sums for one in members if isinstance(one.sums, Trees)]
    return Fitted(_joined(forests, lambda place, values: values * scales[place]), base, finish)


def _calibrator(part: Any) -> Calibrator:
    if kind_of(part) == "_SigmoidCalibration":
        return Calibrator("sigmoid", np.array([part.a_, part.b_], dtype=np.float64), np.zeros(0))
    if part.out_of_bounds != "clip":
        raise NotCompilableError("an isotonic calibration without bounds", where="CalibratedClassifierCV")
    x, y = (np.asarray(values, dtype=np.float64) for values in (part.X_thresholds_, part.y_thresholds_))
    return Calibrator("isotonic", x, y)


def _side_by_side(parts: Sequence[Linear | Trees]) -> Linear | Trees:
    linear = [part for part in parts if isinstance(part, Linear)]
    forests = [part for part in parts if isinstance(part, Trees)]
    if linear and forests:
        raise NotCompilableError("calibrated estimators of several kinds", where="CalibratedClassifierCV")
    if linear:
        from scipy.linalg import block_diag

        features = tuple(feature for part in linear for feature in part.features)
        return Linear(features, block_diag(*(part.weights for part in linear)))
    widths = [part.trees[0].values.shape[1] for part in forests]
    return _joined(
        forests, lambda place, values: np.pad(values, ((0, 0), (sum(widths[:place]), sum(widths[place + 1 :]))))
    )


def _joined(forests: Sequence[Trees], change: Callable[[int, Floats], Floats]) -> Trees:
    """The trees of all forests over the features of all; `change` makes a leaf's values of those of one forest."""
    trees, shift = [], 0
    for place, forest in enumerate(forests):
        for tree in forest.trees:
            read = np.where(tree.left < 0, 0, tree.feature + shift)
            trees.append(replace(tree, values=change(place, tree.values), feature=read))
        shift += len(forest.features)
    return Trees(tuple(feature for forest in forests for feature in forest.features), tuple(trees))


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
            "BaggingClassifier", "BaggingRegressor",
        ),
        _forest,
    ),
    "AdaBoostClassifier": _ada_boost,
    "GaussianNB": _gaussian_naive_bayes,
    "MLPClassifier": _neural_network,
    "MLPRegressor": _neural_network,
    "GradientBoostingClassifier": _gradient_boosting,
    "GradientBoostingRegressor": _gradient_boosting,
    "HistGradientBoostingClassifier": _hist_gradient_boosting,
    "HistGradientBoostingRegressor": _hist_gradient_boosting,
}  # fmt: skip
"""How each estimator is read, by the name of its class."""
