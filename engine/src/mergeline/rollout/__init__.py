"""Ends a rollout through a pull request."""
