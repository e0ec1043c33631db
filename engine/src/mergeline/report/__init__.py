"""Tells people what the numbers say: Markdown, an HTML page and a model card."""
