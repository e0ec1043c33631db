"""The fixture that the slow tests of the server share."""

from __future__ import annotations

from pathlib import Path

import pytest
from serve_samples import Production


@pytest.fixture
def production(tmp_path: Path) -> Production:
    return Production(tmp_path)
