"""A reloader with a clock that a test moves by hand, and a web server that gives out a folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from mergeline.serve.metrics import Metrics
from mergeline.serve.reload import Reloader
from mergeline.serve.settings import Settings
from mergeline.serve.state import CurrentState

if TYPE_CHECKING:
    from serve_samples import Production

START = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """A reloader with a clock that a test moves by hand."""

    def __init__(self, production: Production, **settings) -> None:
        self.now = START
        self.current = CurrentState()
        self.registry = CollectorRegistry()
        manifest = settings.pop("manifest", production.manifest)
        store = settings.pop("store", production.store)
        places = {"root": production.root, "manifest": manifest, "store": store}
        self.settings = Settings(
            **{name: str(path) for name, path in places.items()},
            cache=settings.pop("cache", str(production.root / "cache")),
            **settings,
        )
        self.swaps = 0
        self._reloader = Reloader(
            self.settings,
            self.current,
            Metrics(self.registry),
            clock=lambda: self.now,
            after_swap=self._count_swap,
        )

    def _count_swap(self) -> None:
        self.swaps += 1

    def poll(self, seconds: float = 0) -> Server:
        self.now += timedelta(seconds=seconds)
        self._reloader.poll()
        return self

    @property
    def digest(self) -> str | None:
        serving = self.current.state.serving
        return serving.stable.model.digest if serving else None

    @property
    def error(self) -> str | None:
        failure = self.current.state.failure
        return str(failure.error) if failure else None

    def metric(self, metric: str, **labels) -> float | None:
        return self.registry.get_sample_value(f"mergeline_{metric}", labels)


@contextmanager
def files_behind(folder: Path) -> Iterator[str]:
    """A web server that gives out a folder; its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
