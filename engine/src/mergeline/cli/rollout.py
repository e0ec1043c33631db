"""End a rollout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import Json, app
from mergeline.cli.output import progress, say, say_json, tell_checks

if TYPE_CHECKING:
    from mergeline.manifest.schema import Manifest
    from mergeline.rollout.pull_request import Done, Look, Looked
    from mergeline.rollout.status import Seen

KEY_VARIABLE = "MERGELINE_SERVE_API_KEY"


@app.command()
def conclude(  # noqa: PLR0917 - typer takes each option as a parameter
    url: Annotated[
        str, typer.Option(envvar="MERGELINE_STATUS_URL", help="The server's GET /status, as http://host:3000/status.")
    ] = "",
    prometheus: Annotated[
        str, typer.Option(envvar="MERGELINE_PROMETHEUS_URL", help="Or Prometheus, where several servers roll out.")
    ] = "",
    journal: Annotated[
        str | None, typer.Option(help="The server's journal, for labels; params.yaml: watch.journal if not given.")
    ] = None,
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Open or update the pull request that ends it.")
    ] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Ask nobody: make the candidate stable.")] = False,
    abort: Annotated[
        str | None, typer.Option("--abort", metavar="REASON", help="Ask nobody: take the candidate off, and hold it.")
    ] = None,
    json: Json = False,
) -> None:
    """Say how far the rollout is, and propose its end once it has passed or failed. Ends with 0 whatever it finds."""
    from mergeline.rollout.decision import Conclusion, Ending
    from mergeline.rollout.pull_request import conclude_here, conclude_there

    if finish and abort is not None:
        raise typer.BadParameter("either --finish or --abort")
    root, asked = Path().resolve(), None
    if finish or abort is not None:
        ending = Ending.FINISH if finish else Ending.ABORT
        asked = Conclusion(ending=ending, reason=abort if abort is not None else "a person decided")
    if asked is not None and not pull_request:
        from mergeline.files import write_text
        from mergeline.manifest.schema import MANIFEST_FILE

        write_text(MANIFEST_FILE, conclude_here(root, asked.ending, asked.reason))
        say(f"{MANIFEST_FILE} ends the rollout; next: mergeline verify, then commit it and open a pull request")
        return
    look = _look(root, url, prometheus, journal, asked)
    if pull_request:
        _tell(conclude_there(root, look), json=json)
        return
    from mergeline.documents import read_text
    from mergeline.manifest.schema import MANIFEST_FILE, read_manifest
    from mergeline.rollout.pull_request import Done

    _tell(Done(look(read_manifest(), read_text(MANIFEST_FILE)).conclusion), json=json)


def _look(root: Path, url: str, prometheus: str, journal: str | None, asked: object) -> Look:
    """Judges a manifest's rollout: as a person asked, or by what the servers and the labels say."""
    from mergeline.rollout.decision import Conclusion

    def look(manifest: Manifest, text: str) -> Looked:
        from datetime import UTC, datetime, timedelta

        from mergeline.errors import WatchError
        from mergeline.params import read_params
        from mergeline.rollout.decision import decide
        from mergeline.rollout.pull_request import Looked
        from mergeline.rollout.status import fetch, read_prometheus, read_status

        if manifest.spec.candidate is None:
            return Looked(decide(manifest, (), None))
        if isinstance(asked, Conclusion):
            return Looked(asked)
        if url:
            seen: tuple[Seen, ...] = (read_status(fetch(url, os.environ.get(KEY_VARIABLE, "")), manifest, url),)
        elif prometheus:
            seen = read_prometheus(fetch, prometheus, manifest, text)
        else:
            raise WatchError(
                "no server is named, and a model rolls out",
                where="mergeline conclude",
                hint="give --url http://host:3000/status (or the variable MERGELINE_STATUS_URL), or --prometheus",
            )
        if not seen or any(not one.current or one.phase != "passed" for one in seen):
            return Looked(decide(manifest, seen, None), seen)
        from mergeline.watch.challenge_candidate import try_candidate

        now, params = datetime.now(UTC), read_params()
        place = journal or params.watch.journal
        starts = [one.started for one in seen if one.started is not None]
        since = min(starts, default=now - timedelta(days=30))
        progress("reading the labels of what it has answered")
        place = place if "://" in place else str(root / place)
        trial = try_candidate(root, params, manifest, place, since=since, now=now)
        return Looked(decide(manifest, seen, trial), seen)

    return look


def _tell(done: Done, *, json: bool) -> None:
    from mergeline.github.actions import add_summary, set_output

    conclusion, opened = done.conclusion, done.opened
    set_output("ending", conclusion.ending)
    set_output("pull", str(opened.kept.pull.number) if opened else "")
    add_summary(f"**{conclusion.ending}**: {conclusion.reason}")
    if json:
        say_json({**conclusion.model_dump(mode="json"), "pull": opened.kept.pull.number if opened else None})
        return
    for reason in conclusion.reasons:
        say(reason)
    say(f"{conclusion.ending}: {conclusion.reason}")
    if opened is not None:
        tell_checks(opened.checks)
        say(f"pull request #{opened.kept.pull.number} from {opened.kept.pull.branch}: {opened.kept.pull.url}")
    if done.told:
        say(f"told people: {done.told}")
