"""The verbs that run production: serve, the image, and traffic to try them with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mergeline.cli.app import EnvironmentOption, Json, app
from mergeline.cli.output import say, say_json
from mergeline.files import write_bytes

image_app = typer.Typer(help="Build the server's container image, and try it.", no_args_is_help=True)
app.add_typer(image_app, name="image")

render_app = typer.Typer(help="Write the files of a larger platform.", no_args_is_help=True)
app.add_typer(render_app, name="render")

Name = Annotated[str, typer.Argument(help="The image's name, as registry/owner/name:tag.")]


@image_app.command("build")
def build_image(
    name: Name,
    engine: Annotated[str, typer.Option(help="What builds it: docker or buildah.")] = "docker",
    base: Annotated[str | None, typer.Option(help="The base image, best by digest; the bentofile's if none.")] = None,
) -> None:
    """Build the image with the libraries of uv.lock and the models that the manifest names."""
    from mergeline.image.build import BUILD, build

    built = build(name, engine=engine, base=base)
    say(f"built {name} with {len(built.models)} model(s), without {built.left_out_bytes / 1e6:.0f} MB of the libraries")
    say(f"what is in it: {BUILD / 'sbom.cdx.json'}; next: mergeline image smoke {name}")


@image_app.command("smoke")
def smoke_image(name: Name) -> None:
    """Run the image read-only as an unknown user, and predict once."""
    from mergeline.image.smoke import smoke

    say(f"{name} answered: {json.dumps(smoke(name))}")


@render_app.command("kubernetes")
def render_kubernetes() -> None:
    """Write deploy/kubernetes: base and components anew, overlays and Argo CD's files where they are missing."""
    from mergeline.kubernetes.render import DEPLOY, render

    rendered = render(Path())
    say(f"wrote {len(rendered.written)} files for Kubernetes, left {len(rendered.kept)} of yours alone")
    say(f"next: kubectl kustomize {DEPLOY}, then commit; docs/kubernetes.md")


@app.command()
def dashboard(
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("build/grafana/mergeline.json"),
) -> None:
    """Write Grafana's dashboard for the metrics of this engine."""
    from importlib import resources

    write_bytes(output, resources.files("mergeline.observability").joinpath("mergeline.json").read_bytes())
    say(f"wrote {output}; next: docker compose --file deploy/compose.yaml --profile observability up --wait")


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


@app.command()
def traffic(
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="Partitions, or folders of them; the project's data if not given.", exists=True),
    ] = None,
    *,
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:3000",
    rate: Annotated[float | None, typer.Option(help="Requests a second.", min=0.001)] = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Follow the rows' own times, so many times faster: 86400 is a day a second.", min=1e-6),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            help="60s, 15m, 2h: spread all rows over it; with --rate, send for so long, from the first row again."
        ),
    ] = None,
    connections: Annotated[int, typer.Option(help="Most requests at a time.", min=1, max=1000)] = 8,
    batch: Annotated[int, typer.Option(help="Records in a request.", min=1)] = 1,
    rows: Annotated[int | None, typer.Option(help="Send only so many rows.", min=1)] = None,
    label_delay: Annotated[
        str | None, typer.Option(help="Send labels so long after the prediction, in the rows' own time: 2h, 1d.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Damage the rows: drift=0.5sd, nulls=0.2, unseen=0.1, or nulls:temp=0.5 for one column."),
    ] = None,
    fault_after: Annotated[str, typer.Option(help="Begin the damage so long after the start.")] = "0s",
    seed: Annotated[int, typer.Option(help="Which rows a fault hits.")] = 0,
    timeout: Annotated[str, typer.Option(help="How long to wait for an answer.")] = "10s",
    json: Json = False,
) -> None:
    """Replay rows against a server, with labels that come later and faults on request; Ctrl-C ends it early."""
    from mergeline.traffic.drive import TrafficOptions
    from mergeline.traffic.faults import parse_fault
    from mergeline.traffic.send import seconds_of, send

    options = TrafficOptions(
        url=url,
        places=tuple(data or ()),
        rate=rate,
        speed=speed,
        duration=seconds_of(duration, "--duration") if duration else None,
        connections=connections,
        batch=batch,
        limit=rows,
        timeout=seconds_of(timeout, "--timeout"),
        label_delay=seconds_of(label_delay, "--label-delay") if label_delay else None,
        faults=tuple(parse_fault(text) for text in fault or ()),
        fault_after=seconds_of(fault_after, "--fault-after"),
        seed=seed,
    )
    live = sys.stderr.isatty()
    tally = send(Path().resolve(), options, _live if live else None)
    if live:
        sys.stderr.write("\r\x1b[K")
    if json:
        say_json(tally.as_dict())
    else:
        say(tally.text())
    if tally.interrupted:
        sys.exit(130)


def _live(line: str) -> None:
    """The line in the place of the one before."""
    sys.stderr.write(f"\r\x1b[K{line[:118]}")
    sys.stderr.flush()
