"""Turns production’s labels into the next proposal."""
