"""Sends a server the rows of a data set as production would, and says how it answered."""
