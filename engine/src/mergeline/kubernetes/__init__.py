"""Renders the files that run a home's server on Kubernetes."""
