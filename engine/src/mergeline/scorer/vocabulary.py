"""Finds every text that a fitted pipeline knows."""

from __future__ import annotations

from typing import Any

PARTS = (
    "steps", "transformers_", "transformer_list", "_preprocessor", "calibrated_classifiers_", "estimator", "regressor_",
    "transformer_",
)  # fmt: skip
"""The attributes in which scikit-learn's estimators keep others."""


def texts_named(pipeline: Any) -> tuple[str, ...]:
    """Every text that an encoder or imputer anywhere in the pipeline names, sorted."""
    found: set[str] = set()
    for part in _parts(pipeline):
        lists = [
            *getattr(part, "categories_", ()),
            getattr(part, "statistics_", ()),
            [getattr(part, "fill_value", None)],
        ]
        found.update(str(value) for values in lists for value in values if isinstance(value, str))
    return tuple(sorted(found))


def _parts(part: Any) -> list[Any]:
    """The estimator and every fitted estimator inside it."""
    found = [part]
    for name in PARTS:
        inner = getattr(part, "__dict__", {}).get(name)
        for item in inner if isinstance(inner, list | tuple) else [inner]:
            for member in item if isinstance(item, tuple) else (item,):
                if type(member).__module__.startswith("sklearn."):
                    found += _parts(member)
    return found
