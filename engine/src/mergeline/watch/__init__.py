"""Watches production: what came in and what was answered, against what the model was made from."""
