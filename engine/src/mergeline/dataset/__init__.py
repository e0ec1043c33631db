"""Reads the team's data, judges them, and divides them by time."""

VALIDATION_FORMAT = 1
"""Changes when the stage `validate` would find or write something else on the same data and params."""
