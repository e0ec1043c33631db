"""Measures a model on the holdout and decides whether it may be proposed."""

EVALUATION_FORMAT = 2
"""Changes when the stage `evaluate` would measure or write something else of the same model: it runs again then,
and no model is trained for it."""
