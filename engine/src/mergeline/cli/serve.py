"""Serve the models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergeline.cli.app import EnvironmentOption, app


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 3000,
    manifest: Annotated[
        str, typer.Option(help="The manifest to follow: a file, or an HTTP(S) address; the environment's if not given.")
    ] = "",
    environment: EnvironmentOption = "",
    store: Annotated[
        str | None, typer.Option(help="Folder or address of the store; the configured one if not given.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Folder of the journal; journal/ if not given.", file_okay=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that answer; serve.workers of the params if not given.")
    ] = None,
) -> None:
    """Serve what the manifest says, and follow it when it changes."""
    from mergeline.manifest.schema import manifest_path
    from mergeline.params import read_params
    from mergeline.serve.run import serve as run
    from mergeline.store.objects import configured_store

    if not manifest:
        environments = read_params().release.environments
        manifest = manifest_path(environments, environment or environments[-1]).as_posix()
    run(
        Path(),
        host=host,
        port=port,
        manifest=manifest,
        store=store or configured_store(Path()).url,
        journal=journal,
        workers=workers,
    )
