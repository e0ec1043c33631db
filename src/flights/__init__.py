"""Yours: the schema, the features and the model. The rest of the repository is the engine."""
