"""Judged models to write reports of: flights-like, multiclass and regression, in every state."""

from __future__ import annotations

import math

from mergeline.evaluate.results import (
    Comparison,
    Confusion,
    Curve,
    DeLong,
    Estimate,
    Evaluation,
    Fairness,
    GateCheck,
    GateOutcome,
    GateVerdict,
    GroupRates,
    Holdout,
    Importance,
    Metric,
    PairedMetric,
    Series,
    SliceChange,
    SliceResult,
    Status,
    StressResult,
)
from mergeline.model.lineage import Change, ModelLineage
from mergeline.params import METRICS, GateParams, Task
from mergeline.report.inputs import ReportInput

DIGEST = "sha256:" + "3f9ac1" * 10 + "7b21"
CHAMPION = "sha256:" + "b81d04" * 10 + "99ce"
HOLDOUT = Holdout(
    digest="sha256:" + "52" * 32, partitions=("2013-06",), rows=27_161, first="2013-06-01", last="2013-06-30"
)
GATE = GateParams(metric="roc_auc", margin=0.005, slice_margin=0.02, floors={"roc_auc": 0.65, "log_loss": 0.65})
VALUES = {
    "roc_auc": 0.7312, "average_precision": 0.5744, "log_loss": 0.5421, "brier": 0.1823, "calibration_error": 0.0312,
    "accuracy": 0.7219, "balanced_accuracy": 0.6641, "f1": 0.5583, "mae": 12.41, "rmse": 24.92, "r2": 0.412,
    "median_absolute_error": 7.81, "p90_absolute_error": 31.07,
}  # fmt: skip
CARRIERS = ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS", "F9", "YV", "HA", "OO")
FEATURES = (
    "hour", "carrier", "dest", "origin", "weekday", "precip", "humid", "visib", "pressure", "wind_speed", "temp",
    "dewp", "wind_dir", "distance", "seats", "plane_year", "month_day", "is_holiday",
)  # fmt: skip


def make_input(task: Task = Task.BINARY, outcome: GateOutcome = GateOutcome.BETTER, **changes: object) -> ReportInput:
    """One judged model; `changes` replace fields of the input."""
    accepted = outcome.passes
    gain = {GateOutcome.BETTER: 0.0072, GateOutcome.EQUIVALENT: 0.0003, GateOutcome.WORSE: -0.0161}.get(outcome, 0.0011)
    half = 0.0122 if outcome is GateOutcome.INCONCLUSIVE else 0.0039
    metric = {Task.BINARY: "roc_auc", Task.MULTICLASS: "log_loss", Task.REGRESSION: "mae"}[task]
    gate = GATE.model_copy(update={"metric": metric, "floors": {}})
    comparison = None if outcome is GateOutcome.NO_CHAMPION else make_comparison(task, outcome, gain, half)
    verdict = GateVerdict(
        accepted=accepted,
        outcome=outcome,
        checks=make_checks(outcome, metric, gain, half),
        comparison=comparison,
        challenger_digest=DIGEST,
        holdout=HOLDOUT,
    )
    fields: dict[str, object] = {
        "name": "flights",
        "version": (1 if comparison is None else 8) if accepted else None,
        "digest": DIGEST,
        "evaluation": make_evaluation(task),
        "verdict": verdict,
        "gate": gate,
        "lineage": LINEAGE,
        "changes": () if comparison is None else CHANGES,
        "base_commit": "8c1f0a2b" * 5,
        "commands": ("git switch faster-trees", "uv sync --locked", "uv run dvc pull", "uv run mergeline propose"),
    }
    return ReportInput.model_validate(fields | changes)


def make_comparison(task: Task, outcome: GateOutcome, gain: float, half: float) -> Comparison:
    columns = [("carrier", name) for name in CARRIERS] + [("origin", name) for name in ("EWR", "JFK", "LGA")]
    slices = []
    for place, (column, value) in enumerate(columns):
        worse = outcome is GateOutcome.WORSE and value in {"EV", "MQ"}
        moved = -0.046 if worse else gain + 0.012 * math.sin(2.3 * place)
        slices.append(
            SliceChange(
                column=column,
                value=value,
                rows=9000 // (place + 1) if column == "carrier" else 9054,
                metric="mae" if task is Task.REGRESSION else "log_loss",
                champion=0.72,
                challenger=0.72 + moved,
                gain=Estimate(value=moved, low=moved - 0.006 - 0.001 * place, high=moved + 0.006 + 0.001 * place),
                p_value=0.0004 if worse else 0.8,
                q_value=0.004 if worse else 0.93,
                worse=worse,
            )
        )
    paired = []
    for place, (name, up) in enumerate(METRICS[task].items()):
        moved = gain * (1 - 0.45 * place) * (VALUES[name] if VALUES[name] > 1 else 1)
        wide = half * (VALUES[name] if VALUES[name] > 1 else 1)
        before = Estimate(value=VALUES[name], low=VALUES[name] - wide, high=VALUES[name] + wide)
        after = VALUES[name] + (moved if up else -moved)
        paired.append(
            PairedMetric(
                name=name,
                higher_is_better=up,
                champion=before,
                challenger=Estimate(value=after, low=after - wide, high=after + wide),
                gain=Estimate(value=moved, low=moved - wide, high=moved + wide),
            )
        )
    return Comparison(
        champion_digest=CHAMPION,
        champion_version=7,
        outcome=outcome,
        reason="the interval of the gain says so",
        metrics=tuple(paired),
        slices=tuple(slices),
        delong=DeLong(gain=Estimate(value=gain, low=gain - half, high=gain + half), p_value=0.0004, agrees=True)
        if task is Task.BINARY
        else None,
        curves=make_evaluation(task).curves,
    )


def make_checks(outcome: GateOutcome, metric: str, gain: float, half: float) -> tuple[GateCheck, ...]:
    status = Status.SKIP if outcome is GateOutcome.NO_CHAMPION else Status.PASS if outcome.passes else Status.FAIL
    figures = {"champion": 0.7312, "challenger": 0.7312 + gain, "gain": gain, "low": gain - half, "high": gain + half}
    champion = GateCheck(
        name="champion",
        status=status,
        value=str(outcome),
        bound="better, or worse by less than 0.005",
        case=outcome.value,
        numbers=figures | {"margin": 0.005, "confidence": 0.95},
        names={"metric": metric},
    )
    slices = {
        GateOutcome.WORSE: GateCheck(
            name="slices",
            status=Status.FAIL,
            value="2 of 19",
            bound="none worse by more than 0.02 log loss",
            case="worse slices",
            numbers={"champion": 0.72, "challenger": 0.674, "rows": 3000, "q_value": 0.004},
            names={"column": "carrier", "value": "EV", "metric": "log_loss", "others": "carrier = MQ"},
        )
    }.get(
        outcome,
        GateCheck(
            name="slices",
            status=Status.SKIP if outcome is GateOutcome.NO_CHAMPION else Status.PASS,
            value="0 of 19",
            bound="none worse by more than 0.02 log loss",
            case="no worse slice",
            numbers={"slices": 19},
        ),
    )
    rows = [
        ("delong", Status.PASS, "+0.0072 [+0.0033, +0.0111]", "same outcome", "DeLong's test agrees, p = 0.0004."),
        ("floor roc_auc", Status.PASS, "0.7384", "≥ 0.65", "roc_auc reaches what every model must."),
        ("floor log_loss", Status.PASS, "0.5349", "≤ 0.65", "log_loss reaches what every model must."),
        ("fairness origin", Status.WARN, "0.118", "≤ 0.3", "Some groups of origin lack a class."),
        ("calibration", Status.PASS, "0.0312", "≤ 0.1", "Scores are close to the shares that came true."),
        ("stress", Status.PASS, "0.271", "loses ≤ 0.3", f"{metric} loses most under shifted inputs."),
        ("size", Status.PASS, "0.612 MB", "≤ 50 MB", "The model folder is small enough."),
        ("latency", Status.PASS, "6.1 ms", "≤ 100 ms", "Scoring one row is fast enough (median, on this machine)."),
    ]  # fmt: skip
    others = [GateCheck(name=n, status=s, value=v, bound=b, meaning=m) for n, s, v, b, m in rows]
    return (champion, *others[:3], slices, *others[3:])


def make_evaluation(task: Task = Task.BINARY) -> Evaluation:
    def measured(scale: float) -> tuple[Metric, ...]:
        return tuple(
            Metric(name=n, estimate=Estimate(value=VALUES[n] * scale, low=VALUES[n] * scale - 0.004,
                                             high=VALUES[n] * scale + 0.004), higher_is_better=up)
            for n, up in METRICS[task].items()
        )  # fmt: skip

    labels = {Task.BINARY: ("False", "True"), Task.MULTICLASS: tuple("0123456789"), Task.REGRESSION: ()}[task]
    groups = tuple(
        GroupRates(group=name, rows=9054, rates={"selection_rate": 0.3 + place / 20, "true_positive_rate": 0.6,
                                                 "false_positive_rate": 0.21})
        for place, name in enumerate(("EWR", "JFK", "LGA"))
    )  # fmt: skip
    return Evaluation(
        name="flights",
        task=task,
        digest=DIGEST,
        holdout=HOLDOUT,
        metrics=measured(1.01),
        slices=tuple(
            SliceResult(column="carrier", value=name, rows=9000 // (place + 1), metrics=measured(1 - place / 100))
            for place, name in enumerate(CARRIERS)
        ),
        slice_edges={},
        fairness=(
            Fairness(
                column="origin",
                groups=groups,
                gaps={"demographic_parity_difference": 0.118, "equalized_odds_difference": 0.094},
            ),
        ),
        importance=tuple(
            Importance(feature=name, loss=0.081 / (place + 1) - 0.005, deviation=0.0021)
            for place, name in enumerate(FEATURES)
        ),
        stress=(
            StressResult(name="missing values", description="20% of the values are taken away", value=0.69, loss=0.041),
            StressResult(
                name="out-of-range values", description="5% of the numbers lie outside", value=0.72, loss=0.01
            ),
            StressResult(
                name="shifted inputs", description="every number is 0.5 deviations up", value=0.46, loss=0.271
            ),
            StressResult(name="noisy inputs", description="every number carries noise", value=0.729, loss=0.002),
            StressResult(
                name="unseen categories",
                description="20% of the categories are new",
                value=None,
                loss=None,
                error="ValueError: found unknown categories",
            ),
        ),
        curves=make_curves(task, labels),
        confusion=make_confusion(labels),
        model_bytes=612_345,
    )


def make_confusion(labels: tuple[str, ...]) -> Confusion | None:
    if not labels:
        return None
    counts = tuple(tuple(5200 if i == j else 310 + 7 * i + j for j in range(len(labels))) for i in range(len(labels)))
    return Confusion(labels=labels, counts=counts, threshold=0.31 if len(labels) == 2 else None)


def make_curves(task: Task, labels: tuple[str, ...]) -> tuple[Curve, ...]:
    steps = [place / 59 for place in range(60)]
    middles = [(place + 0.5) / 25 for place in range(25)]
    bins = [0.04 + place * 0.083 for place in range(11)]

    def lines(shape: float) -> tuple[Series, ...]:
        names = labels[1:] if len(labels) == 2 else labels
        return tuple(
            Series(name=name, x=tuple(steps), y=tuple(x ** (shape + 0.02 * place) for x in steps))
            for place, name in enumerate(names)
        )

    if task is Task.REGRESSION:
        means = [-12.0 + 4.1 * place for place in range(20)]
        actual = Series(name="model", x=tuple(means), y=tuple(0.9 * x + 1.5 for x in means))
        spread = tuple(
            Series(name=name, x=tuple(means), y=tuple(base + base * x / 90 for x in means))
            for name, base in (("10th percentile", -19.0), ("median", -0.5), ("90th percentile", 27.0))
        )
        return (
            Curve(name="predicted_actual", title="Actual value by quantile of the prediction",
                  x_label="mean prediction", y_label="mean actual value", series=(actual,)),
            Curve(name="residuals", title="Residuals by quantile of the prediction", x_label="mean prediction",
                  y_label="actual − predicted", series=spread),
        )  # fmt: skip
    scores = tuple(
        Series(name=name, x=tuple(middles), y=tuple(math.exp(-((x - peak) ** 2) / 0.03) / 7.7 for x in middles))
        for name, peak in (("negative", 0.22), ("positive", 0.41))
    )
    return (
        Curve(name="roc", title="ROC curve", x_label="false positive rate", y_label="true positive rate",
              series=lines(0.38)),
        Curve(name="precision_recall", title="Precision and recall", x_label="recall", y_label="precision",
              series=tuple(s.model_copy(update={"y": tuple(1 - 0.7 * y for y in s.y)}) for s in lines(0.6))),
        Curve(name="calibration", title="Calibration", x_label="mean score", y_label="share of positives",
              series=(Series(name="model", x=tuple(bins), y=tuple(0.03 + 0.9 * x for x in bins)),)),
        Curve(name="scores", title="Scores by class", x_label="score", y_label="share of the class's rows",
              series=scores),
    )  # fmt: skip


LINEAGE = ModelLineage(
    code="9d4f" * 10,
    data="md5:" + "ab12" * 8 + ".dir",
    params="sha256:" + "c3" * 32,
    environment="sha256:" + "d4" * 32,
    training={
        "task": "binary",
        "model": {"factory": "flights.model:pipeline", "seed": 7, "arguments": {"learning_rate": 0.1, "max_iter": 60}},
    },
    partitions=("2013-01", "2013-02", "2013-03", "2013-04", "2013-05"),
    rows=138_912,
    seed=7,
    processor="x86_64",
    libraries={"mergeline": "0.1.0", "scikit-learn": "1.9.1", "numpy": "2.4.6", "pandas": "3.1.1", "skops": "0.16.0"},
)

CHANGES = (
    Change(kind="params", what="model.arguments.max_iter", before="30", after="60"),
    Change(kind="data", what="data", before="md5:" + "77aa" * 8 + ".dir", after="md5:" + "ab12" * 8 + ".dir"),
    Change(kind="data", what="trained on", before="2013-01 to 2013-04 (4 partitions)",
           after="2013-01 to 2013-05 (5 partitions)"),
    Change(kind="code", what="the team's package", before="11" * 20, after="9d4f" * 10),
    Change(kind="libraries", what="scikit-learn", before="1.9.0", after="1.9.1"),
)  # fmt: skip
