"""The one reader and writer of DVC's content-addressed store."""
