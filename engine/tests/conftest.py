"""How every test runs."""

import pytest
from hypothesis import settings

# One suite, one result: examples are the same in every run, and a slow machine is not a failure.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Fast tests first, whatever order chance has put them in."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
