"""Bring a model on to the next environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import Json, PullRequestOption, app
from mergeline.cli.output import progress, say, say_json, tell_checks
from mergeline.cli.rollout import KEY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mergeline.manifest.schema import Manifest
    from mergeline.params import Params
    from mergeline.rollout.promote import Look, Promotion
    from mergeline.rollout.status import Serving


@app.command()
def promote(
    to: Annotated[
        str, typer.Option("--to", help="The environment to promote to; each after the first if not given.")
    ] = "",
    url: Annotated[
        str, typer.Option(help="GET /status of the environment before; release.in_environment if not given.")
    ] = "",
    watched: Annotated[Path, typer.Option(help="The last look at the model, as `mergeline watch` wrote it.")] = Path(
        "build/watch/watch.json"
    ),
    pull_request: PullRequestOption = False,
    json: Json = False,
) -> None:
    """Bring what an environment serves to the next one, once it has proven itself there. Ends with 0 whatever it finds.

    Nothing is trained, and no byte is new: the release is copied from one manifest to the other.
    """
    from datetime import UTC, datetime

    from mergeline.files import write_text
    from mergeline.params import read_params
    from mergeline.rollout.promote import Outcome, assess, promote_by_pull_request, promoted_text, steps

    if len(read_params().release.environments) == 1 and not to:
        say("nothing: there is one environment; params.yaml: release.environments names others")
        return
    root, now, look = Path().resolve(), datetime.now(UTC), _look(Path().resolve(), url, watched)
    found = []
    for source, target in steps(root, to):
        if pull_request:
            found.append(promote_by_pull_request(root, look, now, target.environment))
            continue
        found.append(assess(source, target, look, now))
        release = found[-1].verdict.release
        if found[-1].verdict.outcome is Outcome.PROMOTE and release is not None:
            write_text(target.path, promoted_text(target, release))
            progress(f"{target.path} is written; next: mergeline verify, then commit it and open a pull request")
    _tell_promotions(found, json=json)


def _look(root: Path, url: str, watched: Path) -> Look:
    """Asks the server of an environment and its journal, as far as the params say where they are."""

    def look(environment: str, manifest: Manifest) -> tuple[Serving | None, str]:
        from mergeline.errors import WatchError
        from mergeline.params import read_params
        from mergeline.release_params import EnvironmentParams
        from mergeline.rollout.status import Serving, fetch, read_serving

        params = read_params()
        own = params.release.in_environment.get(environment, EnvironmentParams())
        address, serving = url or own.status, None
        if address:
            try:
                serving = read_serving(fetch(address, os.environ.get(KEY_VARIABLE, "")), address)
            except WatchError as error:
                serving = Serving(problem=error.what)
        if own.journal:
            return serving, _watch(root, params, manifest, own.journal)
        return serving, _watched(watched, manifest)

    return look


def _watch(root: Path, params: Params, manifest: Manifest, journal: str) -> str:
    """What a look at an environment's journal finds."""
    from datetime import UTC, datetime

    from mergeline.watch.watch import make_request
    from mergeline.watch.watch import watch as run

    request = make_request(root, params, datetime.now(UTC), window=None, end=None, journal=journal)
    return run(root, params, manifest, request, progress).outcome.value


def _watched(file: Path, manifest: Manifest) -> str:
    """What the last look found, where it was at this manifest's model; empty where nobody looked."""
    from json import loads

    from mergeline.errors import DataError

    stable = manifest.spec.stable
    try:
        told = loads(file.read_text(encoding="utf-8"))
        return str(told["outcome"]) if stable is not None and told["digest"] == stable.digest else ""
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError) as cause:
        raise DataError("not what mergeline watch writes", where=str(file), hint="run mergeline watch again") from cause


def _tell_promotions(found: Sequence[Promotion], *, json: bool) -> None:
    from mergeline.github.actions import add_summary, set_output

    opened = [one.opened for one in found if one.opened is not None]
    set_output("pulls", " ".join(str(one.kept.pull.number) for one in opened))
    add_summary("\n".join(f"- {one.target}: **{one.verdict.outcome}**: {one.reason}" for one in found))
    if json:
        say_json(
            [
                {
                    "source": one.source,
                    "target": one.target,
                    **one.verdict.model_dump(mode="json", include={"outcome", "findings"}),
                    "version": one.verdict.release.version if one.verdict.release else None,
                    "reason": one.reason,
                    "pull": one.opened.kept.pull.number if one.opened else None,
                }
                for one in found
            ]
        )
        return
    for one in found:
        tell_checks(one.checks)
        say(f"{one.target}: {one.verdict.outcome}: {one.reason}")
        if one.opened is not None:
            say(f"pull request #{one.opened.kept.pull.number}: {one.opened.kept.pull.url}")
        if one.reported:
            say(f"reported: {one.reported}")
