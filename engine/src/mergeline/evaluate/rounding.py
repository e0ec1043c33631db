"""Rounds results, so that the last bits, which depend on the number of threads, reach no file."""

from __future__ import annotations

from typing import Any, TypeVar

from mergeline.documents import Frozen

DIGITS = 6
"""Significant digits that are kept."""

Result = TypeVar("Result", bound=Frozen)


def rounded(result: Result) -> Result:
    """The same result with every float rounded to six significant digits."""
    return type(result).model_validate(_round(result.model_dump()))


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") + 0.0
    if isinstance(value, dict):
        return {key: _round(child) for key, child in value.items()}
    if isinstance(value, tuple | list):
        return [_round(child) for child in value]
    return value
