"""The pipeline that is trained: params.yaml names this function and gives its arguments."""

from typing import Any

from sklearn.ensemble import ExtraTreesClassifier


def pipeline(seed: int, **arguments: Any) -> ExtraTreesClassifier:
    """An unfitted forest; `arguments` are those of ExtraTreesClassifier."""
    return ExtraTreesClassifier(random_state=seed, **arguments)
