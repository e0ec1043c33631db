"""Reads the team's data, judges them, and divides them by time."""
