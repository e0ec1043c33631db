"""Turns an accepted model into a change of `deploy/manifest.yaml`."""
