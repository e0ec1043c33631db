"""The verbs that begin a repository from the template, add a model to one, and keep it up to date."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from mergeline.cli.app import PullRequestOption, app, enter_home
from mergeline.cli.output import progress, say
from mergeline.files import write_text
from mergeline.home import Home

QUESTIONS = ("name", "recipe", "file", "target", "owner", "engine")
"""The keys of copier.yml."""
RECIPES = ("iris", "digits", "diabetes", "fraud", "flights")
"""What a model may begin with, beside a team's own file."""
DataOption = Annotated[
    list[str] | None, typer.Option("--data", help="An answer, as key=value; may be repeated: copier.yml has the keys.")
]
DefaultsOption = Annotated[bool, typer.Option("--defaults", help="Ask nothing.")]


@app.command("new")
def new_repository(
    folder: Annotated[Path, typer.Argument(help="The repository to make.", metavar="DIR")],
    data: DataOption = None,
    defaults: DefaultsOption = False,
) -> None:
    """Make a repository from the template, with its first accepted model."""
    from mergeline.template.new import new

    answers = new(folder, _known(data), defaults=defaults, say=progress)
    say(f"{folder} serves {answers.name} from its first commit on. Next:")
    say(f"  cd {shlex.quote(str(folder))} && source .venv/bin/activate")
    _say_next()


@app.command("adopt")
def adopt_repository(
    name: Annotated[str, typer.Argument(help="The model's name: small letters, digits and hyphens.")],
    data: DataOption = None,
    defaults: DefaultsOption = False,
) -> None:
    """Turn a copy of the template (GitHub's "Use this template") into your own repository, in place."""
    from mergeline.template.adopt import adopt

    answers, before = adopt(Path().resolve(), name, _known(data), defaults=defaults, say=progress)
    say(f"this repository is {answers.name}'s now, and serves its first model; nothing is pushed. Next:")
    say("  source .venv/bin/activate")
    if before:
        say(
            f"  git diff --stat {before[:12]} -- ':!engine' ':!store'     # what was yours before: git restore --source"
        )
    _say_next()


@app.command("upgrade")
def upgrade_repository(
    pull_request: PullRequestOption = False,
    source: Annotated[
        str, typer.Option(help="The template, as an address or a folder; where it came from if not given.")
    ] = "",
) -> None:
    """Bring the repository up to date with its template, and say what that does to the model."""
    from mergeline.github.actions import add_summary, set_output
    from mergeline.template.upgrade import Told, body, upgrade_by_pull_request, upgrade_here

    root = Path().resolve()
    told = (
        upgrade_by_pull_request(root, source, progress) if pull_request else Told(upgrade_here(root, source, progress))
    )
    found = told.upgrade
    set_output("pull", str(told.number or ""))
    if not found.is_new:
        say(f"up to date: {found.source} has nothing newer than {found.after}")
        return
    add_summary(body(found))
    say(f"from {found.before} to {found.after} of {found.source}")
    say(found.verdict.replace("**", ""))
    for path in found.conflicts:
        say(f"conflict, marked inline: {path}")
    if told.url:
        say(f"{told.note or 'open'}: {told.url}")
    elif not pull_request:
        solve = "solve the conflicts, " if found.conflicts else ""
        say(f"next: {solve}make install, read git diff --cached, then commit it on a branch and open a pull request")


@app.command("migrate")
def migrate() -> None:
    """Lift params.yaml of an older format to the one that this engine reads; comments stay."""
    from mergeline.documents import read_text
    from mergeline.manifest.schema import read_manifest
    from mergeline.params import PARAMS_FILE, PARAMS_FORMAT
    from mergeline.template.upgrade import checked_params

    text = read_text(PARAMS_FILE)
    lifted, found = checked_params(text)
    read_manifest()  # it has had one format so far: a newer one is refused
    if lifted == text:
        say(f"{PARAMS_FILE} has format {found} already, and the manifest is as this engine reads it")
        return
    write_text(PARAMS_FILE, lifted)
    say(f"{PARAMS_FILE} is lifted from format {found} to {PARAMS_FORMAT}; look at it: git diff {PARAMS_FILE}")


def _known(data: list[str] | None) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in data or ()]
    for key, found, value in pairs:
        if not found:
            raise typer.BadParameter(f"{key + value!r} is not key=value", param_hint="--data")
        if key not in QUESTIONS:
            from mergeline.documents import nearest

            guess = nearest(key, QUESTIONS)
            hint = f"did you mean {guess}=?" if guess else f"there are {', '.join(QUESTIONS)}"
            raise typer.BadParameter(f"there is no question {key!r}; {hint}", param_hint="--data")
    return {key: value for key, _, value in pairs}


def _say_next() -> None:
    say("  mergeline serve          # then ask it: http://127.0.0.1:3000/predict")
    say("  mergeline doctor         # what GitHub still needs; then: gh repo create --source . --push")


@app.command("new-model")
def new_model(
    name: Annotated[str, typer.Argument(help="The model to add, in models/NAME.", metavar="NAME")],
    recipe: Annotated[str, typer.Option(help=f"What it begins with: {', '.join(RECIPES)}.")] = "",
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own CSV or Parquet file instead.", exists=True, dir_okay=False)
    ] = None,
    target: Annotated[str, typer.Option(help="With --data: the column to predict; its last one if not given.")] = "",
) -> None:
    """Add a model to this repository, in a home of its own with params, pipeline, data and manifest, and propose it."""
    from mergeline.cli.propose import propose
    from mergeline.template.new_model import new_model as make

    if data is None and recipe not in RECIPES:
        what = f"there is no recipe {recipe!r}" if recipe else "name what it begins with"
        raise typer.BadParameter(f"{what}: --recipe takes {', '.join(RECIPES)}; --data a file of your own")
    root = Home.at(Path().resolve()).root
    home = make(
        root, name, "blank" if data else recipe, file=data.resolve() if data else None, target=target, say=progress
    )
    say(f"made {home.place}, src/ and tests/ of {name}; training, judging and proposing its first model")
    os.chdir(root)
    enter_home(name)
    propose(next_step=False)
    say(f"next: read {home.place}/report/report.md, then: mergeline propose --model {name} --pull-request")
