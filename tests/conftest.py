"""How every test runs."""

from hypothesis import settings

# One suite, one result: examples are the same in every run, and a slow machine is not a failure.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")
