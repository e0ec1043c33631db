"""Decides which model answers a request while a candidate rolls out, and takes a bad candidate off."""
