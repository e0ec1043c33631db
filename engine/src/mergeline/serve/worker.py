"""Runs the BentoML service in this process, on a socket that was opened for it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import shutil
import signal
import socket
import sys
from types import FrameType

import uvicorn

from mergeline.serve.draining import drain
from mergeline.serve.settings import SUPERVISED_VARIABLE

GRACE_SECONDS = 10
KEEP_ALIVE_SECONDS = 75
"""Longer than the minute that load balancers keep an idle connection: else they send into one that just closed."""


class DrainingServer(uvicorn.Server):
    """Drains at SIGTERM, and then ends."""

    interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal: Ctrl-C is a person who does not want to wait."""
        self.interrupted = self.interrupted or sig == signal.SIGINT
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close."""
        from mergeline.serve.service import application

        engine = application.engine
        await drain(engine, sockets or (), seconds=0 if self.interrupted else engine.settings.drain_seconds)
        await super().shutdown(sockets)


def main(handle: int) -> None:
    """Answer on the listening socket `handle` until SIGTERM or Ctrl-C."""
    gc.set_threshold(200_000, 50, 50)  # what start-up makes stays: no use to look through it for garbage
    sys.setswitchinterval(0.0005)  # a thread that loads a model then holds an answer up by half a millisecond, not five
    signal.signal(signal.SIGTERM, _leave)
    supervised = SUPERVISED_VARIABLE in os.environ  # then the metrics folder is the supervisor's to delete
    if supervised:
        _die_with_parent()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a caller's broken request is no news
    try:
        with socket.socket(fileno=handle) as listener, contextlib.suppress(KeyboardInterrupt):
            _run(listener)
    finally:
        if not supervised:
            shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)


def _run(listener: socket.socket) -> None:
    import bentoml

    from mergeline.serve.asgi import PredictApp
    from mergeline.serve.protocol import BoundedProtocol, take_descriptors
    from mergeline.serve.service import SERVICE_NAME, ModelServer, apps

    take_descriptors()
    # BentoML's own launcher sets these; its metrics carry them as labels.
    bentoml.server_context.service_type = "entry_service"
    bentoml.server_context.service_name = bentoml.server_context.bento_name = SERVICE_NAME
    front = PredictApp(ModelServer.to_asgi())  # type: ignore[attr-defined]  # BentoML's decorator made a Service of it
    apps.append(front)
    config = uvicorn.Config(
        front,
        http=BoundedProtocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        server_header=False,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    DrainingServer(config).run(sockets=[listener])


def _leave(_: int, __: FrameType | None) -> None:
    """Exit as after Ctrl-C: uvicorn raises the signal again when it has shut down, and the default ends at once."""
    sys.exit(0)


def _die_with_parent() -> None:
    """Ask Linux for SIGTERM when the supervisor dies, whatever it died of; elsewhere there is no such thing."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


if __name__ == "__main__":
    main(int(sys.argv[1]))
