"""Measures a model on the holdout and decides whether it may be proposed."""
