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
from mergeline.serve.settings import PREFIX, SHARED_VARIABLE, Settings
from mergeline.serve.source import is_url

BACKLOG = 2048
CACHE_FOLDER = Path("build/models")


class AddressError(MergelineError):
    """The server cannot listen where it was asked to."""


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
                "the port is taken", where=where, hint="choose another with --port, or any free one with --port 0"
            ) from None
        if reason in (errno.EACCES, errno.EPERM):
            raise AddressError(
                "this user may not open the port", where=where, hint="choose one above 1023 with --port"
            ) from None
        raise AddressError(
            f"cannot listen there: {cause}", where=where, hint="give an address of this machine with --host"
        ) from None


def serve(
    root: Path,
    *,
    host: str,
    port: int,
    manifest: str,
    store: str,
    journal: Path | None = None,
    workers: int | None = None,
) -> NoReturn:
    """Serve what `manifest` says until Ctrl-C or SIGTERM. Does not return: the server takes this process over.

    Args:
        root: the repository; `params.yaml` there gives limits, trusted types and the signing policy.
        host: the address to listen on.
        port: the port, or 0 for any free one.
        manifest: the file or the HTTP(S) address to follow; it may be missing, and appear later.
        store: where the models' objects are: a folder, or an address that fsspec knows.
        journal: the folder of the journal; None takes `journal/` in the repository.
        workers: how many processes answer; None takes `serve.workers` of the params.

    Raises:
        AddressError: the port is taken, or the address is not one of this machine.
        MergelineError: no folder takes temporary files.
        ParamsError: `params.yaml` is wrong.
    """
    params = read_params(root / PARAMS_FILE)
    listener = open_listener(host, port)
    settings = Settings.of(
        params,
        root=str(root.absolute()),
        manifest=manifest if is_url(manifest) else str(Path(manifest).absolute()),
        store=store,
        cache=str((root / CACHE_FOLDER).absolute()),
        journal_folder=str(journal.absolute()) if journal else "",
        url=f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}",
        api_key=os.environ.get(PREFIX + "API_KEY", ""),
    )
    run(settings if workers is None else settings.model_copy(update={"workers": workers}), listener)


def run(settings: Settings, listener: socket.socket) -> NoReturn:
    """Become the worker, or the supervisor of several, on a socket that listens.

    Raises:
        MergelineError: no folder takes temporary files.
    """
    try:
        folder = tempfile.mkdtemp(prefix="mergeline-metrics-")
    except OSError as cause:
        raise MergelineError(
            f"no folder for temporary files can be written: {cause.strerror or cause}",
            where="TMPDIR",
            hint="make room, or name a folder that takes them; in a container mount one: --tmpfs /tmp",
        ) from None
    environment = worker_environment(settings, os.environ, folder)
    handle = listener.detach()
    os.set_inheritable(handle, True)
    several = settings.workers > 1
    module = "mergeline.serve.supervisor" if several else "mergeline.serve.worker"
    more = [str(settings.workers), str(settings.drain_seconds)] if several else []
    os.execve(  # noqa: S606 - an argument list, no shell wanted
        sys.executable, [sys.executable, "-P", "-m", module, str(handle), *more], environment
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
        SHARED_VARIABLE: metrics_folder,
    }
