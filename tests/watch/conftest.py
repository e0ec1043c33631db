"""A repository in production."""

from __future__ import annotations

from pathlib import Path

import pytest
from production_journal import Production


@pytest.fixture
def production(tmp_path: Path) -> Production:
    """A binary model in production, with an empty journal."""
    return Production(tmp_path)
