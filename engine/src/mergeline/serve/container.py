"""Starts the server in a container, where variables say what `mergeline serve` is told by options."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from mergeline.errors import MergelineError, ParamsError
from mergeline.home import choose_home
from mergeline.manifest.schema import MANIFEST_FILE
from mergeline.params import PARAMS_FILE, read_params
from mergeline.serve.run import open_listener, run
from mergeline.serve.settings import PREFIX, Settings, read_settings

ROOT_VARIABLE = PREFIX + "ROOT"
MODEL_VARIABLE = "MERGELINE_MODEL"
"""Which model to serve, of an image that holds several: its home's name in `models/`, or the root's."""
PORT_VARIABLE, PORT = "MERGELINE_LISTEN_PORT", "3000"
"""Where to listen, for networks that do not map ports; Kubernetes sets MERGELINE_PORT beside a Service `mergeline`."""


def container_settings(environment: Mapping[str, str]) -> Settings:
    """The settings that `params.yaml` of the root gives, each replaced by its variable where there is one.

    Args:
        environment: names the root, the model where that holds several, and may hold any setting as
            `MERGELINE_SERVE_…`.

    Raises:
        ParamsError: no root is named, or its `params.yaml` is missing or wrong.
        MergelineError: a variable is unknown or of the wrong kind.
    """
    root = environment.get(ROOT_VARIABLE)
    if not root:
        raise ParamsError("no root is named", where=ROOT_VARIABLE, hint="set it to the folder that holds params.yaml")
    if environment.get(MODEL_VARIABLE):
        home = choose_home(Path(root), environment[MODEL_VARIABLE])
        manifest = PREFIX + "MANIFEST"
        if environment.get(manifest) == str(Path(root, MANIFEST_FILE)):
            environment = {**environment, manifest: str(home.folder / MANIFEST_FILE)}
        environment = {**environment, ROOT_VARIABLE: str(home.folder)}
        root = environment[ROOT_VARIABLE]
    stated = Settings.of(
        read_params(Path(root, PARAMS_FILE)),
        root=root,
        manifest="",
        store="",
        cache="",
        url=f"http://127.0.0.1:{environment.get(PORT_VARIABLE, PORT)}",
    )
    return read_settings({**stated.to_environment(), **environment})


def main() -> None:
    """Serve on every address of the container until SIGTERM. Does not return: the server takes this process over.

    Raises:
        MergelineError: a setting is wrong, or there is no place for temporary files.
    """
    settings = container_settings(os.environ)
    port = os.environ.get(PORT_VARIABLE, PORT)
    if not port.isdecimal():
        raise MergelineError("not a port", where=f"{PORT_VARIABLE}={port}", hint=f"write it as {PORT}")
    run(settings, open_listener("0.0.0.0", int(port)))  # noqa: S104 - the container's network decides who reaches it


if __name__ == "__main__":
    try:
        main()
    except MergelineError as error:
        sys.exit(f"mergeline: {error}")
