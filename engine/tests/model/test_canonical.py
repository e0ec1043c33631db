"""Canonical bytes: the same for the same model, and the model that comes back predicts the same."""

import io
import zipfile

import numpy as np
import pytest
import skops.io
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from mergeline.model.artifact import dump_pipeline
from mergeline.model.trust import untrusted

ESTIMATORS = [
    HistGradientBoostingClassifier(max_iter=5, early_stopping=True, random_state=0),
    GradientBoostingClassifier(n_estimators=3, random_state=0),
    RandomForestClassifier(n_estimators=3, random_state=0),
    ExtraTreesClassifier(n_estimators=3, random_state=0),
    DecisionTreeClassifier(max_depth=3, random_state=0),
    LogisticRegression(),
    GaussianNB(),
    KNeighborsClassifier(),
    MLPClassifier(hidden_layer_sizes=(4,), max_iter=10, random_state=0),
    CalibratedClassifierCV(LogisticRegression()),
    VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 3))
    return features, features[:, 0] + features[:, 1] ** 2 > 0.5


def _load(content):
    names = skops.io.get_untrusted_types(data=content)
    assert untrusted(names, ()) == []
    return skops.io.loads(content, trusted=names)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_two_fits_give_one_byte_string_that_predicts_the_same(rows, estimator):
    features, target = rows
    made = []
    for _ in range(2):
        pipeline = make_pipeline(StandardScaler(), PolynomialFeatures(2), clone(estimator)).fit(features, target)
        made.append(dump_pipeline(pipeline))
    assert made[0] == made[1]
    back = _load(made[0])
    assert (back.predict_proba(features) == pipeline.predict_proba(features)).all()


def test_zip_members_are_sorted_stored_and_without_a_clock(rows):
    features, target = rows
    archive = zipfile.ZipFile(io.BytesIO(dump_pipeline(LogisticRegression().fit(features, target))))
    names = archive.namelist()
    assert names == sorted(names)
    assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_sparse_matrix_inside_comes_back():
    model = KNeighborsClassifier(n_neighbors=1).fit(csr_matrix(np.eye(4)), [0, 1, 2, 3])
    first, second = dump_pipeline(model), dump_pipeline(model)
    assert first == second
    assert _load(first).predict(csr_matrix(np.eye(4))).tolist() == [0, 1, 2, 3]
