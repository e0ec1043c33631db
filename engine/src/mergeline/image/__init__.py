"""The container image of the server."""
