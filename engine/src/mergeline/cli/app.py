"""The application that every verb is added to, and what verbs have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main
from typer.core import TyperGroup

from mergeline import __version__
from mergeline.cli.output import progress, say, stands_in
from mergeline.errors import MergelineError
from mergeline.home import Home, choose_home, find_homes

if TYPE_CHECKING:
    from mergeline.params import Params

FIRST = (
    "propose", "gate", "serve", "watch", "diagnose", "retrain", "rollout", "promote", "rollback", "hold", "verify",
    "doctor",
)  # fmt: skip
"""The verbs of the loop: what a person needs, in the order of the loop."""
OF_THE_REPOSITORY = ("adopt", "build", "ci", "dashboard", "doctor", "keys", "new", "new-model", "upgrade")
"""Verbs that act on the repository, and not on the model of one home."""


class Verbs(TyperGroup):
    """Lists the verbs of the loop first; every verb of one model takes `--model`."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find the verb, with the option in it."""
        if cmd_name == "ci":  # what only workflows call is loaded when they do
            from mergeline.cli.ci import ci

            return typer.main.get_command(ci)
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            _take_model(found)
        return found

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the verbs in two lists."""
        shown = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        shown = {name: verb for name, verb in shown.items() if verb is not None and not verb.hidden}
        others = sorted(name for name in shown if name not in FIRST)
        for title, names in (("Verbs", FIRST), ("Stages of the pipeline, and what is needed less often", others)):
            with formatter.section(title):
                formatter.write_dl(
                    [(name, verb.get_short_help_str(200)) for name in names if (verb := shown.get(name)) is not None]
                )


def _take_model(verb: Any) -> None:
    """Let a verb, or each verb of a group, take `--model`; without it, the home is the folder that one stands in."""
    if verb.name in OF_THE_REPOSITORY:
        return
    for each in getattr(verb, "commands", {}).values():
        _take_model(each)
    if not hasattr(verb, "commands") and all(parameter.name != "model" for parameter in verb.params):
        verb.params.append(_model_option())


@cache
def _model_option() -> Any:
    """The option as Typer makes it."""
    verb = typer.Typer()

    @verb.command()
    def of_a_model(
        model: Annotated[
            str | None,
            typer.Option(
                "--model",
                metavar="NAME",
                callback=_enter,
                is_eager=True,  # before other options: their paths start there
                expose_value=False,
                help="The model to act on, as if called in models/NAME; that of this folder if not given.",
            ),
        ] = None,
    ) -> None:
        """Never called."""

    return next(parameter for parameter in typer.main.get_command(verb).params if parameter.name == "model")


def _enter(context: typer.Context, model: str | None) -> None:
    """Go to the home, unless it may be about every one: then there need be none where one stands."""
    if model is not None or all(parameter.name != "every" for parameter in context.command.params):
        enter_home(model)


def enter_home(model: str | None) -> None:
    """Go to the home of a model, so that every path that is given starts there."""
    here = Path().resolve()
    home = choose_home(here, model)
    if home.folder != here:
        stands_in(here)
        os.chdir(home.folder)


def chosen_homes(*, every: bool) -> dict[str, Home]:
    """The homes that a verb acts on by the name of their model: this one, whose name is empty here, or every one."""
    folder = Path().resolve()
    found = find_homes(Home.at(folder).root) if every else {}
    return found if len(found) > 1 else {"": next(iter(found.values()), None) or choose_home(folder, None)}


def params_of(home: Home) -> Params:
    """The params of a home; errors name the file as a person here would."""
    from mergeline.params import PARAMS_FILE, read_params

    path, here = home.folder / PARAMS_FILE, Path.cwd()
    return read_params(path.relative_to(here) if path.is_relative_to(here) else path)


def for_each_home(action: Callable[[str, Home], object], *, every: bool) -> list[str]:
    """Act on this home, or on every one: an error of one model is told, and stops no other.

    The exit code is 1 where one failed. A model without a journal beside others that have one is new, and no failure.

    Returns:
        The models without a journal.
    """
    from mergeline.journal.listing import NoJournalError

    homes, failed, new = chosen_homes(every=every), False, []
    for name, home in homes.items():
        try:
            action(name, home)
        except (MergelineError, SystemExit) as error:
            if len(homes) == 1:
                raise
            if isinstance(error, NoJournalError):
                new.append(name)
                progress(f"{name}: not looked at: {error}")
                continue
            failed = True
            if isinstance(error, MergelineError):
                sys.stderr.write(f"mergeline: {name}: {error}\n")
    if failed or len(new) == len(homes):
        sys.exit(1)
    return new


app = typer.Typer(
    name="mergeline",
    cls=Verbs,
    help="Pull requests train and judge scikit-learn models, and the merge is the release.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _tell_version(asked: bool) -> None:
    if asked:
        say(f"mergeline {__version__}")
        raise typer.Exit


@app.callback()
def every_verb(
    version: Annotated[
        bool,
        typer.Option("--version", help="Tell the engine's version, and end.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """Take what stands before the verb."""


AllOption = Annotated[bool, typer.Option("--all", help="Of every model of the repository, one after another.")]
BaseOption = Annotated[
    str | None, typer.Option("--base", help="Branch or commit to be merged into; main if not given.")
]
LAST_LOOK = Path("build/watch/watch.json")
JournalOption = Annotated[str | None, typer.Option(help="Folder or address of the server's journal.")]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON on standard output.")]
EnvironmentOption = Annotated[
    str, typer.Option("--environment", help="One of release.environments; the last one, production, if not given.")
]
PullRequestOption = Annotated[
    bool, typer.Option("--pull-request", help="Change nothing here: open the pull request on the base branch.")
]
