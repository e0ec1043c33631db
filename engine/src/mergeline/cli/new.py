"""The verb that makes a repository from the template."""

from __future__ import annotations

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
