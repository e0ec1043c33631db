"""A repository in production."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from production_journal import Production


@pytest.fixture
def production(tmp_path: Path) -> Production:
    """A binary model in production, with an empty journal."""
    return Production(tmp_path)


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Makes a folder one that we may not read; root reads them all, so for root it is made to look so."""
    closed: list[Path] = []
    scan = os.scandir

    def scan_as_others(folder: str) -> object:
        if any(Path(folder).is_relative_to(each) for each in closed):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    def shut(folder: Path) -> None:
        folder.chmod(0)
        closed.append(folder)

    if os.geteuid() == 0:
        monkeypatch.setattr("os.scandir", scan_as_others)
    yield shut
    for each in closed:
        each.chmod(0o755)
