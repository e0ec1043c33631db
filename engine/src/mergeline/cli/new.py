"""The verbs that make a repository from the template, and add a model to one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mergeline.cli.app import app
from mergeline.cli.output import progress, say


@app.command("new")
def new_repository(
    folder: Annotated[Path, typer.Argument(help="The repository to make.", metavar="DIR")],
    data: Annotated[list[str] | None, typer.Option("--data", help="An answer, as key=value; may be repeated.")] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Ask nothing.")] = False,
) -> None:
    """Make a repository from the template, with its first accepted model."""
    from mergeline.template.new import new

    known = {}
    for entry in data or ():
        key, found, value = entry.partition("=")
        if not found:
            raise typer.BadParameter(f"{entry!r} is not key=value", param_hint="--data")
        known[key] = value
    answers = new(folder, known, defaults=defaults, say=progress)
    say(f"{folder} serves {answers.name} from its first commit on. Next:")
    say(f"  cd {folder} && source .venv/bin/activate")
    say("  mergeline serve          # then ask it: http://127.0.0.1:3000/predict")
    say("  gh repo create --source . --push && mergeline doctor")


@app.command("new-model")
def new_model(
    name: Annotated[str, typer.Argument(help="The model to add, in models/NAME.", metavar="NAME")],
    recipe: Annotated[str, typer.Option(help="What it begins with: iris, digits, diabetes, flights.")] = "iris",
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own CSV or Parquet file instead.", exists=True, dir_okay=False)
    ] = None,
    target: Annotated[str, typer.Option(help="With --data: the column to predict; its last one if not given.")] = "",
) -> None:
    """Add a model to this repository, in a home of its own with params, pipeline, data and manifest, and propose it."""
    from mergeline.cli.app import enter_home
    from mergeline.cli.propose import propose
    from mergeline.home import Home
    from mergeline.template.new_model import new_model as make

    root = Home.at(Path().resolve()).root
    home = make(
        root, name, "blank" if data else recipe, file=data.resolve() if data else None, target=target, say=progress
    )
    say(f"made {home.place}, src/ and tests/ of {name}; training, judging and proposing its first model")
    os.chdir(root)
    enter_home(name)
    propose()
    say(f"next: read {home.place}/report/report.md, then: mergeline propose --model {name} --pull-request")
