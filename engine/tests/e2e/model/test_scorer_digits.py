"""A compiled classifier of images."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mergeline.dataset import Kind
from mergeline.params import Task
from mergeline.scorer.compiling import build_scorer
from mergeline.scorer.equivalence import to_rows
from mergeline.scorer.signature import Column, Output, Signature
from mergeline.scorer.stored import load_scorer, read_document


def test_digits(tmp_path):
    digits = load_digits(as_frame=True)
    columns = tuple(Column(name=name, kind=Kind.NUMBER, nullable=False) for name in digits.data.columns)
    output = Output(task=Task.MULTICLASS, target="digit", classes=tuple(range(10)))
    described = Signature(name="digits", columns=columns, output=output)
    for model in (
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(n_estimators=20, random_state=0),
        HistGradientBoostingClassifier(max_iter=5, random_state=0),
    ):
        model.fit(digits.data, digits.target)
        for name, content in build_scorer(model, described, digits.data, digits.data.iloc[:0]).items():
            (tmp_path / name).write_bytes(content)
        scorer = load_scorer(tmp_path, described)
        assert scorer is not None, read_document(tmp_path).reason
        rows = to_rows(digits.data, columns)
        assert np.abs(scorer.score(scorer.encode(rows)) - model.predict_proba(digits.data)).max() < 1e-12
