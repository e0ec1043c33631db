"""Bring a model on to the next environment."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import LAST_LOOK, AllOption, Json, PullRequestOption, app, for_each_home, params_of
from mergeline.cli.output import of_model, progress, say, say_json, tell_checks
from mergeline.cli.rollout import KEY_VARIABLE
from mergeline.errors import WatchError
from mergeline.files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mergeline.home import Home
    from mergeline.manifest.schema import Manifest
    from mergeline.params import Params
    from mergeline.rollout.promote import Look, Promotion
    from mergeline.rollout.status import Serving


@app.command()
def promote(  # noqa: PLR0917 - typer takes each option as a parameter
    to: Annotated[
        str, typer.Option("--to", help="The environment to promote to; each after the first if not given.")
    ] = "",
    url: Annotated[
        str,
        typer.Option(
            help="GET /status of the environment before; release.in_environment if not given. "
            "Of several models http://{model}:3000/status."
        ),
    ] = "",
    watched: Annotated[
        Path, typer.Option(help="The last look at the model, as `mergeline watch` wrote it.")
    ] = LAST_LOOK,
    pull_request: PullRequestOption = False,
    every: AllOption = False,
    json: Json = False,
) -> None:
    """Bring what an environment serves to the next one, once it has proven itself there. Ends with 0 whatever it finds.

    Nothing is trained, and no byte is new: the release is copied from one manifest to the other.
    """
    from mergeline.rollout.promote import Outcome, assess, promote_by_pull_request, promoted_text, steps

    now = datetime.now(UTC)
    found: dict[str, list[Promotion]] = {}

    def step(model: str, home: Home) -> None:
        params = params_of(home)
        if len(params.release.environments) == 1 and not to:
            if not json:
                said = "nothing: there is one environment; params.yaml: release.environments names others"
                say(f"{model}: {said}" if model else said)
            return
        look, found[model] = _look(home, params, url, watched.parent / model / watched.name), []
        for source, target in steps(home.folder, to):
            if pull_request:
                found[model].append(promote_by_pull_request(home.folder, look, now, target.environment))
                continue
            promotion = assess(source, target, look, now)
            found[model].append(promotion)
            release = promotion.verdict.release
            if promotion.verdict.outcome is Outcome.PROMOTE and release is not None:
                write_text(home.folder / target.path, promoted_text(target, release))
                progress(f"{target.at} is written; next: mergeline verify, then commit it and open a pull request")

    try:
        for_each_home(step, every=every)
    finally:
        _tell_promotions(found, json=json)


def _look(home: Home, params: Params, url: str, watched: Path) -> Look:
    """Asks the server of an environment and its journal, as far as the params say where they are."""

    def look(environment: str, manifest: Manifest) -> tuple[Serving | None, str]:
        from mergeline.release_params import EnvironmentParams
        from mergeline.retrain.pull_request import read_watch
        from mergeline.rollout.status import Serving, fetch, read_serving, status_address

        own = params.release.in_environment.get(environment, EnvironmentParams())
        address, serving = url.replace("{model}", params.name) or own.status, None
        if address:
            address = status_address(address)
            try:
                serving = read_serving(fetch(address, os.environ.get(KEY_VARIABLE, "")), address)
            except WatchError as error:
                serving = Serving(problem=error.what)
        if own.journal:
            return serving, _watch(home.folder, params, manifest, own.journal)
        look = read_watch(watched).at(manifest.spec.stable)
        return serving, str(look.outcome or "")

    return look


def _watch(root: Path, params: Params, manifest: Manifest, journal: str) -> str:
    """What a look at an environment's journal finds."""
    from mergeline.watch.watch import make_request
    from mergeline.watch.watch import watch as run

    request = make_request(root, params, datetime.now(UTC), journal=journal)
    return run(root, params, manifest, request, progress).outcome.value


def _tell_promotions(found: Mapping[str, Sequence[Promotion]], *, json: bool) -> None:
    """Say what was found of each model, by its name, which is empty where only one was looked at."""
    from mergeline.github.actions import add_summary, set_output

    every = [(model, one) for model, ones in found.items() for one in ones]
    set_output("pulls", " ".join(str(one.opened.kept.pull.number) for _, one in every if one.opened is not None))
    inside = {model: f"{model}: " if model else "" for model in found}
    add_summary(
        "\n".join(f"- {inside[model]}{one.target}: **{one.verdict.outcome}**: {one.reason}" for model, one in every)
    )
    if json:
        rows: list[dict[str, object]] = []
        for model, one in every:
            release, opened = one.verdict.release, one.opened
            named = {"model": model} if model else {}
            judged = one.verdict.model_dump(mode="json", include={"outcome", "findings"})
            told = {"version": release.version if release else None, "reason": one.reason}
            pull = {"pull": opened.kept.pull.number if opened else None}
            rows.append({**named, "source": one.source, "target": one.target, **judged, **told, **pull})
        say_json(rows)
        return
    for model, one in every:
        tell_checks(of_model(model, one.checks))
        say(f"{inside[model]}{one.target}: {one.verdict.outcome}: {one.reason}")
        if one.opened is not None:
            say(f"pull request #{one.opened.kept.pull.number}: {one.opened.kept.pull.url}")
        if one.reported:
            say(f"reported: {one.reported}")
