"""The BentoML service: what `mergeline serve` runs, and `bentoml serve mergeline.serve.service:ModelServer`."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import bentoml

from mergeline.serve.application import make_routes
from mergeline.serve.asgi import PredictApp
from mergeline.serve.engine import Engine
from mergeline.serve.metrics import Metrics
from mergeline.serve.settings import SHARED_VARIABLE, SUPERVISED_VARIABLE, read_settings

SERVICE_NAME = "mergeline"
LOAD_SECONDS = 60.0
"""How long one of several workers stays away from the socket while its first models are loaded."""

# Behind BentoML's middlewares, for its own launcher. BentoML would answer paths that a Starlette application does not
# know by itself, with a page that calls an analytics service; wrapped like this, it hands over every path.
application: PredictApp = PredictApp(make_routes(lambda: application.engine))

apps = [application]
"""Every one in this process; our own worker puts one in front of BentoML."""


# Its middlewares for logs and metrics would cost more than the model; /metrics is the application's.
@bentoml.service(name=SERVICE_NAME, workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})
@bentoml.asgi_app(application)
class ModelServer:
    """One engine a worker; BentoML adds /livez and /readyz."""

    def __init__(self) -> None:
        # Imported late: it reads PROMETHEUS_MULTIPROC_DIR, which BentoML sets after it imported this module.
        from prometheus_client import CollectorRegistry

        logging.getLogger("mergeline").setLevel(logging.INFO)
        # BentoML's launcher gives its metrics folder to every run there ever is: what we share must not outlive one.
        shared = Path(os.environ.get(SHARED_VARIABLE) or tempfile.mkdtemp(prefix="mergeline-run-"))
        self.engine = Engine(read_settings(os.environ), Metrics(CollectorRegistry()), shared)
        for door in apps:
            door.use(self.engine)
        # Beside other workers on one socket: who cannot answer yet must not accept what the others could.
        self.engine.start(wait_seconds=LOAD_SECONDS if SUPERVISED_VARIABLE in os.environ else 0)

    async def __is_ready__(self) -> bool:
        """Whether a model is loaded, and the server is not about to end."""
        return self.engine.is_ready

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """End the engine's threads, and close the journal."""
        self.engine.stop()
