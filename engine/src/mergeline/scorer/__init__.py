"""Compiles a fitted pipeline to something that scores a request in microseconds."""
