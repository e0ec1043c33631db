"""What every reading of a journal needs, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

    from mergeline.journal.window import Journal, Source
    from mergeline.params import Params
    from mergeline.watch.released_model import Served
    from mergeline.watch.window import Window


@dataclass(frozen=True)
class Context:
    """An open connection, the journal's files, the model that is watched, and the params."""

    connection: duckdb.DuckDBPyConnection
    journal: Journal
    served: Served
    params: Params

    def own(self, window: Window) -> Source:
        """The window's files that the watched model answered."""
        return self.journal.source(window).of_digest(self.served.digest)
