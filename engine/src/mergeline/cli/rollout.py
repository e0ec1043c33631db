"""See how far a rollout is, end it, take production back, and hold models."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import AllOption, EnvironmentOption, Json, PullRequestOption, app, for_each_home, params_of
from mergeline.cli.output import progress, say, say_json, tell_checks
from mergeline.errors import WatchError
from mergeline.files import write_text

if TYPE_CHECKING:
    from mergeline.home import Home
    from mergeline.manifest.schema import Hold, Manifest
    from mergeline.rollout.change import Opened
    from mergeline.rollout.end import Assess, Assessed, Decision, Result
    from mergeline.rollout.status import ServerStatus

KEY_VARIABLE = "MERGELINE_SERVE_API_KEY"

rollout = typer.Typer(help="See how far a rollout is, and end it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(rollout, name="rollout")
hold = typer.Typer(help="List, add and remove holds on models.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(hold, name="hold")

DigestArgument = Annotated[str, typer.Argument(help="The model's digest, as the manifest or a report names it.")]
HeldArgument = Annotated[str, typer.Argument(help="The model's digest, or its first digits, as `hold list` names it.")]


@rollout.command("status")
def rollout_status(  # noqa: PLR0917 - typer takes each option as a parameter
    url: Annotated[
        str,
        typer.Option(
            envvar="MERGELINE_STATUS_URL",
            help="The server's GET /status, as http://host:3000/status; of several models http://{model}:3000/status.",
        ),
    ] = "",
    prometheus: Annotated[
        str, typer.Option(envvar="MERGELINE_PROMETHEUS_URL", help="Or Prometheus, where several servers roll out.")
    ] = "",
    journal: Annotated[
        str | None, typer.Option(help="The server's journal, for labels; params.yaml: watch.journal if not given.")
    ] = None,
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Once it has passed or failed, open or update the pull request.")
    ] = False,
    environment: Annotated[
        str, typer.Option("--environment", help="One of release.environments; each if not given.")
    ] = "",
    every: AllOption = False,
    json: Json = False,
) -> None:
    """Say how far the rollout is, and propose its end once it has passed or failed. Ends with 0 whatever it finds."""
    from mergeline.documents import read_text
    from mergeline.manifest.schema import read_manifest
    from mergeline.params import release_in
    from mergeline.release_params import EnvironmentParams
    from mergeline.rollout.change import path_here
    from mergeline.rollout.end import Result, end_by_pull_request

    def look(model: str, home: Home) -> None:
        root, release = home.folder, release_in(home.folder)
        for name in (environment,) if environment else release.environments:
            # What is given here is production's, or that of the environment which is named.
            given = bool(environment) or name == release.environments[-1]
            own = release.in_environment.get(name, EnvironmentParams())
            places = (url, prometheus, journal) if given else ("", "", None)
            address = places[0] or ("" if places[1] else own.status or "")
            assess = _by_servers_and_labels(home, address, places[1], places[2] or own.journal)
            path = root / path_here(root, name)
            if pull_request:
                found = end_by_pull_request(root, assess, name)
            elif path.exists() or given:
                found = Result(assess(read_manifest(path), read_text(path)).decision)
            else:
                continue  # it has no manifest yet
            _tell(found, model, name if len(release.environments) > 1 else "", json=json)

    for_each_home(look, every=every)


@rollout.command("promote")
def rollout_promote(
    pull_request: PullRequestOption = False, environment: EnvironmentOption = "", json: Json = False
) -> None:
    """Make the candidate stable now, whatever its steps say."""
    from mergeline.rollout.end import Decision, Ending

    decision = Decision(ending=Ending.FINISH, reason="a person decided")
    _end(decision, environment, pull_request=pull_request, json=json)


@rollout.command("abort")
def rollout_abort(
    reason: Annotated[str, typer.Argument(help="What failed, in one sentence.")],
    pull_request: PullRequestOption = False,
    environment: EnvironmentOption = "",
    json: Json = False,
) -> None:
    """Remove the candidate from the manifest, and put a hold on it."""
    from mergeline.rollout.end import Decision, Ending

    _end(Decision(ending=Ending.ABORT, reason=reason), environment, pull_request=pull_request, json=json)


@app.command()
def rollback(
    reason: Annotated[str, typer.Argument(help="What failed, in one sentence.")] = "",
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="The version to go back to; the previous one if not given.")
    ] = None,
    pull_request: PullRequestOption = False,
    environment: EnvironmentOption = "",
) -> None:
    """Make an earlier model the stable one in the manifest, and put a hold on what failed."""
    from mergeline.manifest.schema import read_manifest
    from mergeline.rollout.rollback import open_rollback, roll_back_here

    root = Path().resolve()
    if pull_request:
        _tell_opened(open_rollback(root, reason, to, environment))
        return
    path, text = roll_back_here(root, reason, to, environment)
    write_text(path, text)
    stable = read_manifest(path).spec.stable
    say(f"{path} now serves version {stable.version if stable else '-'}, and holds what failed")
    say("next: mergeline verify, then commit it and open a pull request")


@hold.command("list")
def hold_list(json: Json = False) -> None:
    """List the models that may not be proposed, whichever environment holds them."""
    from mergeline.manifest.schema import read_manifest

    held: dict[Hold, list[str]] = {}
    for environment, path in reversed(_manifests().items()):
        for one in read_manifest(path).spec.holds:
            held.setdefault(one, []).append(environment)
    if json:
        say_json([{**one.model_dump(mode="json"), "environments": places} for one, places in held.items()])
        return
    several = len(_manifests()) > 1
    for one, places in held.items():
        pull, where = f" (#{one.pull})" if one.pull else "", f", in {', '.join(places)}" if several else ""
        say(f"{one.digest}  {one.reason}{pull}{where}")
    if not held:
        say("no model is held")


@hold.command("add")
def hold_add(
    digest: DigestArgument,
    reason: Annotated[str, typer.Argument(help="Why, in one sentence.")],
    pull_request: PullRequestOption = False,
) -> None:
    """Put a hold on a model, so that it is not proposed."""
    from mergeline.documents import read_text
    from mergeline.manifest.edit import add_hold
    from mergeline.manifest.schema import MANIFEST_FILE
    from mergeline.rollout.rollback import open_hold

    if pull_request:
        _tell_opened(open_hold(Path().resolve(), digest, reason))
        return
    write_text(MANIFEST_FILE, add_hold(read_text(MANIFEST_FILE), digest, reason))
    say(f"held: {digest} is not proposed; commit {MANIFEST_FILE}")


@hold.command("remove")
def hold_remove(digest: HeldArgument, pull_request: PullRequestOption = False) -> None:
    """Remove the hold on a model, so that it may be proposed again."""
    from mergeline.documents import read_text
    from mergeline.manifest.edit import lift_hold
    from mergeline.manifest.schema import read_manifest
    from mergeline.manifest.transitions import held_digest
    from mergeline.rollout.rollback import open_lift

    if pull_request:
        _tell_opened(open_lift(Path().resolve(), digest))
        return
    manifests = {path: read_manifest(path) for path in _manifests().values()}
    digest = held_digest(manifests.values(), digest)
    held = [path for path, manifest in manifests.items() if digest in manifest.spec.held]
    for path in held:
        write_text(path, lift_hold(read_text(path), digest))
    say(f"removed: {digest} may be proposed again; commit {', '.join(map(str, held))}")


def _manifests() -> dict[str, Path]:
    """Those that are here by environment, in the order in which a model goes through; production's in any case."""
    from mergeline.params import release_in
    from mergeline.rollout.change import path_here

    paths = {each: path_here(Path(), each) for each in release_in(Path()).environments}
    return {each: path for each, path in paths.items() if each == [*paths][-1] or path.exists()}


def _end(decision: Decision, environment: str, *, pull_request: bool, json: bool) -> None:
    """End the rollout as a person asks, here or by a pull request."""
    from mergeline.rollout.end import Assessed, decide, end_by_pull_request, end_here

    root = Path().resolve()
    if not pull_request:
        path, text = end_here(root, decision.ending, decision.reason, environment)
        write_text(path, text)
        say(f"{path} ends the rollout; next: mergeline verify, then commit it and open a pull request")
        return

    def asked(manifest: Manifest, _text: str) -> Assessed:
        return Assessed(decision if manifest.spec.candidate is not None else decide(manifest, (), None))

    _tell(end_by_pull_request(root, asked, environment), json=json)


def _by_servers_and_labels(home: Home, url: str, prometheus: str, journal: str | None) -> Assess:
    """Judges a manifest's rollout by what the servers and the labels say."""

    def assess(manifest: Manifest, text: str) -> Assessed:
        from mergeline.rollout.end import Assessed, decide
        from mergeline.rollout.status import fetch, read_prometheus, read_status, status_address

        if manifest.spec.candidate is None:
            return Assessed(decide(manifest, (), None))
        if url:
            place = status_address(url.replace("{model}", manifest.metadata.name))
            told = fetch(place, os.environ.get(KEY_VARIABLE, ""))
            seen: tuple[ServerStatus, ...] = (read_status(told, manifest, place),)
        elif prometheus:
            seen = read_prometheus(fetch, prometheus, manifest, text)
        else:
            raise WatchError(
                "no server is named, and a model rolls out",
                where="mergeline rollout status",
                hint="give --url http://host:3000/status (or the variable MERGELINE_STATUS_URL), or --prometheus",
            )
        if not seen or any(not one.current or one.phase != "passed" for one in seen):
            return Assessed(decide(manifest, seen, None), seen)
        from mergeline.watch.rivals import try_candidate
        from mergeline.watch.watch import journal_of

        now, params = datetime.now(UTC), params_of(home)
        starts = [one.started for one in seen if one.started is not None]
        since = min(starts, default=now - timedelta(days=30))
        progress("reading the labels of what it has answered")
        place = journal_of(home.folder, params, journal)
        comparison = try_candidate(home.folder, params, manifest, place, since=since, now=now)
        return Assessed(decide(manifest, seen, comparison), seen)

    return assess


def _tell(result: Result, name: str = "", environment: str = "", *, json: bool) -> None:
    from mergeline.github.actions import add_summary, set_output

    decision, opened, of = result.decision, result.opened, f"{name}: " if name else ""
    set_output("ending", decision.ending)
    set_output("pull", str(opened.kept.pull.number) if opened else "")
    of = f"{of}{environment}: " if environment else of
    add_summary(f"{of}**{decision.ending}**: {decision.reason}")
    if json:
        model = {key: value for key, value in (("model", name), ("environment", environment)) if value}
        pull = opened.kept.pull.number if opened else None
        say_json({**model, **decision.model_dump(mode="json"), "pull": pull})
        return
    for reason in decision.reasons:
        say(f"{of}{reason}")
    say(f"{of}{decision.ending}: {decision.reason}")
    if opened is not None:
        tell_checks(opened.checks)
        say(f"pull request #{opened.kept.pull.number} from {opened.kept.pull.branch}: {opened.kept.pull.url}")
    if result.reported:
        say(f"reported: {result.reported}")


def _tell_opened(opened: Opened) -> None:
    from mergeline.github.actions import set_output

    pull = opened.kept.pull
    set_output("pull", str(pull.number))
    set_output("commit", opened.kept.commit)
    tell_checks(opened.checks)
    say(f"pull request #{pull.number} from {pull.branch}: {pull.url}")
    for other in opened.beside:
        say(f"open as well, and outdated once that is merged: #{other.number} {other.title}: {other.url}")
    if not opened.sound:
        sys.exit(1)
