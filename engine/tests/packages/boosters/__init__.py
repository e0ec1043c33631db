"""Pipelines that end in another library's estimator, which only an environment of its own has."""

from sklearn.pipeline import make_pipeline
from toy.model import columns


def lightgbm(seed):
    from lightgbm import LGBMClassifier

    return make_pipeline(columns(), LGBMClassifier(n_estimators=5, random_state=seed, n_jobs=1, verbose=-1))


def xgboost(seed):
    from xgboost import XGBClassifier

    return make_pipeline(columns(), XGBClassifier(n_estimators=5, random_state=seed, n_jobs=1))
