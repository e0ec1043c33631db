"""What a team must have set, here and on GitHub: looked at, judged, and how to fix it."""

from pathlib import Path

from mergeline.errors import ForgeError
from mergeline.github.actions import locate, read_job
from mergeline.github.client import GitHubClient
from mergeline.github.doctor.here import Finding, Here, failed, judge_documents, judge_here, look_here, skipped
from mergeline.github.doctor.there import judge_there, look_there
from mergeline.home import Home, find_homes

PATIENCE_SECONDS = 20.0


def examine(root: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> tuple[Finding, ...]:
    """Everything that is found, without stopping at the first fault.

    Args:
        root: the clone.
        patience_seconds: how long GitHub is waited for in all where it asks to wait.
    """
    homes = find_homes(root) or {"": Home(root)}
    first, *others = homes.values()
    here = look_here(root, first.folder)
    found = [
        finding.model_copy(update={"name": f"{home.model}: {finding.name}"})
        for home in others
        for finding in judge_documents(look_here(root, home.folder))
    ]
    return (*judge_here(here), *found, *_on_github(here, root, patience_seconds))


def _on_github(here: Here, root: Path, patience_seconds: float) -> tuple[Finding, ...]:
    job = read_job()
    if here.remote is None:
        return (skipped("settings on GitHub", "there is no remote"),)
    found = locate(here.remote, job)
    if found is None:
        return (
            skipped(
                "settings on GitHub",
                "the remote is no GitHub that is known here",
                "for an Enterprise Server: export GH_HOST=<its name>",
            ),
        )
    name, there = found
    if not there.token:
        return (skipped("settings on GitHub", "there is no token", "export GITHUB_TOKEN=$(gh auth token)"),)
    try:
        client = GitHubClient(there, name, patience_seconds=patience_seconds, root=root)
        return judge_there(look_there(client), here)
    except ForgeError as error:
        return (failed("settings on GitHub", error.what, "can be read", "Nothing is known of them.", error.hint),)
