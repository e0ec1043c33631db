"""Runs the BentoML service in this process, on a socket that was opened for it."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import signal
import socket
import sys
from types import FrameType

GRACE_SECONDS = 10


def main(handle: int) -> None:
    """Answer on the listening socket `handle` until SIGTERM or Ctrl-C."""
    gc.set_threshold(200_000, 50, 50)  # what start-up makes stays: no use to look through it for garbage
    signal.signal(signal.SIGTERM, _leave)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    try:
        with socket.socket(fileno=handle) as listener, contextlib.suppress(KeyboardInterrupt):
            _run(listener)
    finally:
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)


def _run(listener: socket.socket) -> None:
    import bentoml
    import uvicorn

    from mergeline.serve.service import SERVICE_NAME, ModelServer

    # BentoML's own launcher sets these; its metrics carry them as labels.
    bentoml.server_context.service_type = "entry_service"
    bentoml.server_context.service_name = bentoml.server_context.bento_name = SERVICE_NAME
    config = uvicorn.Config(
        ModelServer.to_asgi(),  # type: ignore[attr-defined]  # BentoML's decorator made a Service of the class
        log_config=None,
        server_header=False,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _leave(_: int, __: FrameType | None) -> None:
    """Exit as after Ctrl-C: uvicorn raises the signal again when it has shut down, and the default ends at once."""
    sys.exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
