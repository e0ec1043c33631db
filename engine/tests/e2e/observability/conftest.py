"""Models that break when told."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def breakables(tmp_path, monkeypatch):
    from breakable_production import BREAKABLE, Breakables

    (tmp_path / "breakable.py").write_text(BREAKABLE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Breakables(tmp_path)
    sys.modules.pop("breakable", None)
