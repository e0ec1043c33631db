"""Yours: the schema, the features and the model. The engine is a library."""
