"""What is released: check it, register it, take it back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import Json, app
from mergeline.cli.output import progress, say, say_json, tell_checks

if TYPE_CHECKING:
    from mergeline.rollout.rollback import Opened

PullRequestOption = Annotated[
    bool, typer.Option("--pull-request", help="Change nothing here: open the pull request on the base branch.")
]


@app.command()
def verify(
    before: Annotated[
        str, typer.Option("--before", help="Check the history since this commit too: that nothing was released blind.")
    ] = "",
    json: Json = False,
) -> None:
    """Check that the manifest, the store, the lineage and the signatures agree. Ends with 1 if they do not."""
    from mergeline.evaluate.results import Status
    from mergeline.github.served_releases import verify_history
    from mergeline.params import read_params
    from mergeline.release.verify import verify as check

    root, params = Path().resolve(), read_params()
    checks = check(root, params)
    if before:
        checks = (*checks, verify_history(root, params.name, before))
    if json:
        say_json([found.model_dump(mode="json") for found in checks])
    else:
        tell_checks(checks)
    if any(found.status is Status.FAIL for found in checks):
        sys.exit(1)


@app.command()
def register() -> None:
    """After a merge: make the MLflow registry say what the manifest says."""
    from mergeline.manifest.schema import read_manifest
    from mergeline.params import read_params
    from mergeline.release.registry import register as make

    registered = make(read_manifest(), read_params(), Path().resolve())
    if registered.warning:
        progress(f"warning: {registered.warning}")
    for alias, version in registered.versions.items():
        say(f"registered: {alias} is version {version}")


@app.command()
def rollback(
    reason: Annotated[str, typer.Argument(help="What failed, in one sentence.")] = "",
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="The version to go back to; the previous one if not given.")
    ] = None,
    pull_request: PullRequestOption = False,
) -> None:
    """Make an earlier model the stable one in the manifest, and put a hold on what failed."""
    from mergeline.files import write_text
    from mergeline.manifest.schema import MANIFEST_FILE, read_manifest
    from mergeline.rollout.rollback import open_rollback, roll_back_here

    root = Path().resolve()
    if pull_request:
        _tell_opened(open_rollback(root, reason, to))
        return
    write_text(MANIFEST_FILE, roll_back_here(root, reason, to))
    stable = read_manifest().spec.stable
    say(f"{MANIFEST_FILE} now serves version {stable.version if stable else '-'}, and holds what failed")
    say("next: mergeline verify, then commit it and open a pull request")


@app.command()
def lift(
    digest: Annotated[str, typer.Argument(help="The digest under a hold, as the manifest names it.")],
    pull_request: PullRequestOption = False,
) -> None:
    """Take the hold on a model off the manifest, so that it may be proposed again."""
    from mergeline.documents import read_text
    from mergeline.files import write_text
    from mergeline.manifest.edit import lift_hold
    from mergeline.manifest.schema import MANIFEST_FILE
    from mergeline.rollout.rollback import open_lift

    if pull_request:
        _tell_opened(open_lift(Path().resolve(), digest))
        return
    write_text(MANIFEST_FILE, lift_hold(read_text(MANIFEST_FILE), digest))
    say(f"lifted: {digest} may be proposed again; commit {MANIFEST_FILE}")


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


@app.command()
def keys(
    folder: Annotated[Path, typer.Argument(help="Where to write signing.key and signing.pub: outside the repository.")],
) -> None:
    """Make a key pair for signing model folders; keep the private key out of the repository."""
    from mergeline.manifest.signatures import KEY_VARIABLE, make_key_pair

    private, public = make_key_pair(folder)
    say(f"made {private} (keep it secret; set {KEY_VARIABLE} to its path) and {public} (commit it)")
