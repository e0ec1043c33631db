"""Writes `MLmodel`, which lets MLflow's loaders read the model folder."""

from __future__ import annotations

from collections.abc import Iterable


def mlflow_description(trusted_types: Iterable[str]) -> str:
    """The text of `MLmodel`: no time, id or version is in it, so that one model is one digest.

    Args:
        trusted_types: the types in `model.skops` that skops does not trust by itself.
    """
    named = sorted(trusted_types)
    types = "".join(f"\n    - {name}" for name in named) if named else " []"
    return f"""\
flavors:
  python_function:
    loader_module: mlflow.sklearn
    model_path: model.skops
    predict_fn: predict
  sklearn:
    pickled_model: model.skops
    serialization_format: skops
    skops_trusted_types:{types}
"""
