"""Starts the server in the foreground: this process becomes it."""

from __future__ import annotations

import errno
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from mergeline.errors import MergelineError
from mergeline.params import PARAMS_FILE, read_params
from mergeline.serve.settings import Settings

CACHE_FOLDER = Path("build/models")
BACKLOG = 2048


class AddressError(MergelineError):
    """The server cannot listen where it was asked to."""


def serve(root: Path, *, host: str, port: int, manifest: Path, store: str) -> NoReturn:
    """Serve what `manifest` says until Ctrl-C or SIGTERM. Does not return: the server takes this process over.

    Args:
        root: the repository; `params.yaml` there gives limits, trusted types and the signing policy.
        host: the address to listen on.
        port: the port, or 0 for any free one.
        manifest: the file to follow; it may be missing, and appear later.
        store: where the models' objects are: a folder, or an address that fsspec knows.

    Raises:
        AddressError: the port is taken, or the address is not one of this machine.
        ParamsError: `params.yaml` is wrong.
    """
    params = read_params(root / PARAMS_FILE)
    listener = open_listener(host, port)
    settings = Settings(
        root=str(root.absolute()),
        manifest=str(manifest.absolute()),
        store=store,
        cache=str((root / CACHE_FOLDER).absolute()),
        url=f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}",
        poll_seconds=params.serve.poll_seconds,
        max_records=params.serve.max_records,
        max_body_mb=params.serve.max_body_mb,
        trusted_types=params.model.trusted_types,
        signing_policy=params.release.signing.policy,
        public_key=params.release.signing.public_key,
    )
    environment = worker_environment(settings, os.environ, tempfile.mkdtemp(prefix="mergeline-metrics-"))
    handle = listener.detach()
    os.set_inheritable(handle, True)
    os.execve(  # noqa: S606 - an argument list, no shell wanted
        sys.executable,
        [sys.executable, "-P", "-m", "mergeline.serve.worker", str(handle)],
        environment,
    )


def worker_environment(settings: Settings, environment: Mapping[str, str], metrics_folder: str) -> dict[str, str]:
    """The environment that the worker runs in."""
    return {
        **environment,
        **settings.to_environment(),
        "BENTOML_DO_NOT_TRACK": "True",
        # Threads of OpenMP in several workers or requests fight for the cores: 4 to 12 requests a second.
        "OMP_NUM_THREADS": "1",
        "PROMETHEUS_MULTIPROC_DIR": metrics_folder,
    }


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket; from now on connections wait instead of being refused.

    Raises:
        AddressError: with what to do about it.
    """
    where = f"{host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as cause:
        reason = getattr(cause, "errno", None)
        if reason == errno.EADDRINUSE:
            raise AddressError(
                "the port is taken", where=where, mend="choose another with --port, or any free one with --port 0"
            ) from None
        if reason in (errno.EACCES, errno.EPERM):
            raise AddressError(
                "this user may not open the port", where=where, mend="choose one above 1023 with --port"
            ) from None
        raise AddressError(
            f"cannot listen there: {cause}", where=where, mend="give an address of this machine with --host"
        ) from None
