"""Verbs that make what production runs on: the container image, Kubernetes' files, and Grafana's dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergeline.cli.app import app
from mergeline.cli.output import say

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
    import json

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

    from mergeline.files import write_bytes

    write_bytes(output, resources.files("mergeline.observability").joinpath("mergeline.json").read_bytes())
    say(f"wrote {output}; next: docker compose --file deploy/compose.yaml --profile observability up --wait")
