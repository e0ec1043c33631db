"""Models that turn bad in production on request: for drills of canaries, guards and alerts.

A slow or failing candidate is a fault of a model, not of the traffic, so it takes a model to practise it. Wrap your own
in `src/<team>/model.py`, release it as any other, and say in the server's environment how it shall misbehave:

    return Drill(Pipeline([...]))                        # params.yaml: trusted_types: [mergeline.traffic.drill.Drill]
    MERGELINE_DRILL=slow:0.2 mergeline serve             # every call takes 0.2 s longer
    MERGELINE_DRILL=fail:0.1 mergeline serve             # one call in ten raises

Without the variable it is the wrapped model, so that the gate judges what it would judge otherwise.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any, Self

from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils.metaestimators import available_if

VARIABLE = "MERGELINE_DRILL"


class DrillError(RuntimeError):
    """The failure that was asked for."""


def misbehave() -> None:
    """Do what the environment asks for.

    Raises:
        DrillError: it asks for a failure, and this call's turn has come.
    """
    kind, _, amount = os.environ.get(VARIABLE, "").partition(":")
    if kind == "slow":
        time.sleep(float(amount))
    elif kind == "fail" and random.random() < float(amount):  # noqa: S311 - a drill, not a secret
        raise DrillError(f"asked for by {VARIABLE}={kind}:{amount}")


def _has(name: str) -> Callable[[Any], Any]:
    found: Callable[[Any], Any] = available_if(lambda drill: hasattr(drill.model, name))
    return found


class Drill(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A fitted or unfitted model that misbehaves where `MERGELINE_DRILL` says so, and is that model elsewhere."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, rows: Any, target: Any) -> Self:
        """Fit the wrapped model."""
        self.model.fit(rows, target)
        return self

    @property
    def classes_(self) -> Any:
        """The classes of the wrapped model."""
        return self.model.classes_

    @_has("predict_proba")
    def predict_proba(self, rows: Any) -> Any:
        """Probabilities of the wrapped model, of shape (n, classes)."""
        misbehave()
        return self.model.predict_proba(rows)

    def predict(self, rows: Any) -> Any:
        """Answers of the wrapped model, of shape (n,)."""
        misbehave()
        return self.model.predict(rows)

    def __sklearn_is_fitted__(self) -> bool:
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        try:
            check_is_fitted(self.model)
        except NotFittedError:
            return False
        return True

    def __sklearn_tags__(self) -> Any:
        return self.model.__sklearn_tags__()
