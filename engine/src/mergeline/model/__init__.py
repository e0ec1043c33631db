"""Trains a model and keeps it as a folder with one digest."""
