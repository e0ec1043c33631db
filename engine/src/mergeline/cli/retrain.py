"""Ask whether a new model would pay, and propose it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import LAST_LOOK, AllOption, JournalOption, Json, app, for_each_home, params_of
from mergeline.cli.output import of_model, progress, say, say_json, short_path, tell_checks
from mergeline.files import write_json

if TYPE_CHECKING:
    from mergeline.home import Home
    from mergeline.manifest.schema import Manifest
    from mergeline.params import Params
    from mergeline.retrain.pull_request import Prepared
    from mergeline.watch.challenge import Challenge

EndOption = Annotated[
    str | None, typer.Option(help="Rows that came later are left alone, as 2026-03-08T12:00; now if not given.")
]


@app.command()
def challenge(
    journal: JournalOption = None,
    end: EndOption = None,
    output: Annotated[Path, typer.Option(help="Folder for challenge.json.")] = Path("build/challenge"),
    json: Json = False,
) -> None:
    """Train a challenger on fresh labelled rows, and say whether it proves a gain. Ends with 0 whatever it finds."""
    from mergeline.github.actions import add_summary, set_output
    from mergeline.manifest.schema import read_manifest
    from mergeline.params import read_params
    from mergeline.watch.challenge import CHALLENGE_FILE

    found = _challenge(Path().resolve(), read_params(), read_manifest(), journal, end).result
    write_json(output.resolve() / CHALLENGE_FILE, found.model_dump(mode="json"))
    set_output("proof", found.proof)
    add_summary(f"**{found.proof}**: {found.headline}")
    if json:
        say_json(found.model_dump(mode="json"))
        return
    tell_checks(found.reasons)
    say(f"{found.proof}. {found.headline}")
    say(f"written to {short_path(output.resolve() / CHALLENGE_FILE)}; next, where it is proven: mergeline retrain")


@app.command()
def retrain(  # noqa: PLR0917 - typer takes each option as a parameter
    journal: JournalOption = None,
    end: EndOption = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Propose though no gain is proven.")] = False,
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Train, judge, and open or update the pull request.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Only lay out what `mergeline ci bundle --ingest` takes, in this folder; with --all in each name's.",
        ),
    ] = None,
    tell: Annotated[
        bool, typer.Option("--tell", help="Keep an issue that says which labels are missing. So does --pull-request.")
    ] = False,
    watched: Annotated[Path, typer.Option(help="The drift evidence, as `mergeline watch` wrote it.")] = LAST_LOOK,
    every: AllOption = False,
    json: Json = False,
) -> None:
    """Propose a model trained on production's labelled rows, where a challenger proves a gain and nothing is under way.

    It ends with 0 where there is nothing to propose, and says why.
    """
    from mergeline.github.actions import set_output

    if output is not None and pull_request:
        raise typer.BadParameter("--output lays a folder out, and opens no pull request")
    prepared: list[dict[str, str]] = []

    def ask(name: str, home: Home) -> None:
        from mergeline.retrain.pull_request import branch_of, prepare, read_watch

        root, params = home.folder, params_of(home)
        folder = None if output is None else output.resolve() / ((name or params.name) if every else "")
        found = prepare(
            root,
            params,
            lambda manifest: _challenge(root, params, manifest, journal, end),
            read_watch(watched.with_name(name) / watched.name if name else watched),
            now=datetime.now(UTC),
            tell=tell or pull_request,
            say=progress,
            anyway=anyway,
            folder=folder,
        )
        _tell(name, found, json=json)
        if found.folder is not None:
            prepared.append({"model": name or params.name, "branch": branch_of(params.name)})
            if pull_request:
                _propose(root, params, found.folder)

    try:
        for_each_home(ask, every=every)
    finally:
        set_output("retrain", dumps(prepared) if prepared else "")


def _propose(root: Path, params: Params, folder: Path) -> None:
    from mergeline.retrain.pull_request import is_done, retrain

    proposal, applied = retrain(root, params, folder, progress)
    say(f"{proposal.state}. {proposal.headline}")
    say(f"{applied.outcome}: {f'pull request #{applied.pull}' if applied.pull else 'no pull request'}")
    for error in filter(None, (proposal.error, applied.error)):
        progress(f"{error.where}: {error.what}\n  hint: {error.hint}")
    if not is_done(proposal, applied):
        sys.exit(1)


def _challenge(root: Path, params: Params, manifest: Manifest, journal: str | None, end: str | None) -> Challenge:
    from mergeline.journal.window import back, length, read_moment
    from mergeline.watch.challenge import challenge as run
    from mergeline.watch.watch import journal_of

    now, place = datetime.now(UTC), journal_of(root, params, journal)
    until = back(now if end is None else read_moment(end), length(params.watch.label_delay))
    return run(root, params, manifest, place, until=until, now=now, tell=progress)


def _tell(name: str, prepared: Prepared, *, json: bool) -> None:
    from mergeline.github.actions import add_summary

    of = f"{name}: " if name else ""
    add_summary(f"{of}**{prepared.step}**: {prepared.reason}")
    if json:
        found = prepared.challenged.model_dump(mode="json") if prepared.challenged else None
        model = {"model": name} if name else {}
        say_json({**model, "step": prepared.step, "reason": prepared.reason, "challenge": found})
        return
    if prepared.challenged is not None:
        tell_checks(of_model(name, prepared.challenged.reasons))
    say(f"{of}{prepared.step}: {prepared.reason}")
    if prepared.folder is not None:
        say(f"laid out in {short_path(prepared.folder)}")
