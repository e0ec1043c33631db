"""Serves what the manifest says, and nothing else."""
