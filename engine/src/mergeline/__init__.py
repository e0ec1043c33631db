"""Mergeline: pull requests train and judge scikit-learn models, and the merge is the release."""

__version__ = "0.1.0"
