"""The BentoML service: what `bentoml serve mergeline.serve.service:ModelServer` and the image run."""

from __future__ import annotations

import logging
import os

import bentoml

from mergeline.serve.application import Application
from mergeline.serve.engine import Engine
from mergeline.serve.metrics import Metrics
from mergeline.serve.settings import read_settings

SERVICE_NAME = "mergeline"

application = Application()


@bentoml.service(name=SERVICE_NAME, workers=1, logging={"access": {"enabled": False}})
@bentoml.asgi_app(application)
class ModelServer:
    """One engine a worker; BentoML adds /livez, /readyz and /metrics."""

    def __init__(self) -> None:
        # Imported late: it reads PROMETHEUS_MULTIPROC_DIR, which BentoML sets after it imported this module.
        from prometheus_client import CollectorRegistry

        logging.getLogger("mergeline").setLevel(logging.INFO)
        self.engine = Engine(read_settings(os.environ), Metrics(CollectorRegistry()))
        application.use(self.engine)
        self.engine.start()

    async def __is_ready__(self) -> bool:
        """Whether a model is loaded."""
        return self.engine.state.serving is not None

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """End the engine's threads."""
        self.engine.stop()
