"""The fixtures that the tests of the server share."""

from __future__ import annotations

from pathlib import Path

import pytest
from serve_samples import Production

from mergeline.serve import model_loading


@pytest.fixture
def production(tmp_path: Path) -> Production:
    return Production(tmp_path)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """One poll is enough: on a busy machine a model's process may take more than the five seconds of one look."""
    monkeypatch.setattr(model_loading, "UPDATE_SECONDS", 60)
