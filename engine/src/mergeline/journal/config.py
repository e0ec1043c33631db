"""What the keeper must know, and how it travels to its process: as JSON. The keeper is too small for pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from mergeline.params import JournalParams


class Keeping(msgspec.Struct, frozen=True):
    """How a journal is kept; `sync` is an address that fsspec knows, or None."""

    folder: str
    seal_seconds: float = 60.0
    keep_days: int = 90
    keep_bytes: int = 20_000_000_000
    sync: str | None = None

    @classmethod
    def of(cls, folder: Path, settings: JournalParams) -> Keeping:
        """The keeper's part of the params; a gigabyte is 10⁹ bytes."""
        return cls(
            str(folder), settings.seal_seconds, settings.keep_days, int(settings.keep_gb * 1e9), settings.sync or None
        )
