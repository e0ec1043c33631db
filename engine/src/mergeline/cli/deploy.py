"""What is done after a merge: check the attestation, decide what there is to do, publish the page of production."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from mergeline.cli.app import Json, app
from mergeline.cli.output import progress, say, say_json, short_path, tell_checks


@app.command()
def attested(
    required: Annotated[
        bool,
        typer.Option(
            "--required", envvar="MERGELINE_ATTESTATION_REQUIRED", help="A model without an attestation fails."
        ),
    ] = False,
    trusted_root: Annotated[
        Path | None,
        typer.Option(help="File with the keys to trust; those of Sigstore's public instance if not given."),
    ] = None,
    json: Json = False,
) -> None:
    """Check that this repository's workflow attested what is released. Ends with 1 if somebody else did."""
    from mergeline.ci.attest import trusted_verifier
    from mergeline.ci.attestations import check_attestations
    from mergeline.errors import ForgeError
    from mergeline.evaluate.results import Status
    from mergeline.github.actions import add_summary
    from mergeline.github.forge import open_github
    from mergeline.github.git import Git
    from mergeline.manifest.schema import read_manifest
    from mergeline.params import read_params

    forge = open_github(Git(Path().resolve()))
    if forge is None:
        raise ForgeError(
            "only GitHub keeps attestations, and origin is not there",
            where="git remote get-url origin",
            hint="rely on the signature of the model folder: release.signing in params.yaml",
        )
    signed = read_params().release.signing.policy == "required"
    checks = check_attestations(
        forge.client, read_manifest(), lambda: trusted_verifier(trusted_root), signed=signed, required=required
    )
    if json:
        say_json([found.model_dump(mode="json") for found in checks])
    else:
        tell_checks(checks)
    add_summary("\n".join(f"- {check.name}: **{check.status.value}**, {check.meaning}" for check in checks))
    if any(found.status is Status.FAIL for found in checks):
        sys.exit(1)


@app.command()
def newest() -> None:
    """Say whether main's manifest is still this commit's. If not, a later deployment publishes what is newer."""
    from mergeline.ci.deployed import is_still_released
    from mergeline.github.actions import add_summary, set_output
    from mergeline.github.git import Git

    still = is_still_released(Git(Path().resolve()))
    words = "this commit's manifest is main's" if still else "skipped: main has another manifest by now, deployed later"
    set_output("newest", str(still).lower())
    add_summary(f"- {words}")
    say(words)


@app.command()
def plan(
    before: Annotated[
        str, typer.Option(help="The commit deployed last; the last success of deploy.yml on GitHub if not given.")
    ] = "",
    json: Json = False,
) -> None:
    """Say what a merge leaves to do: release, image, page, a pipeline that is behind."""
    from mergeline.ci.deployed import last_deployed
    from mergeline.ci.plan import decide, image_leaves_out, pipeline_is_current
    from mergeline.documents import parse
    from mergeline.errors import ForgeError, ManifestError
    from mergeline.github.actions import add_summary, set_output
    from mergeline.github.forge import open_github
    from mergeline.github.git import Git
    from mergeline.github.production import changed_paths
    from mergeline.manifest.schema import MANIFEST_FILE, Manifest, read_manifest
    from mergeline.store.dvc_lock import LOCK_FILE, locked_model

    root = Path().resolve()
    git = Git(root)
    if not before:
        try:
            forge = open_github(git)
            before = (last_deployed(git, forge.client) if forge else None) or ""
        except ForgeError as error:
            progress(f"warning: {error}")  # not known: everything is done, which is never wrong
    changed = changed_paths(git, before) if before else None
    text = git.show(before, MANIFEST_FILE.as_posix()) if changed is not None else None
    earlier = None
    if text is not None:
        with contextlib.suppress(ManifestError):  # one of an earlier format: what it served is not known
            earlier = parse(text, Manifest, f"{MANIFEST_FILE} at {before[:12]}", ManifestError)
    made = decide(
        earlier,
        read_manifest(),
        changed,
        outside=image_leaves_out(root),
        locked=locked_model(root) if (root / LOCK_FILE).exists() else "",
        current=pipeline_is_current(root),
    )
    for name in ("released", "report", "image", "page", "stale"):
        set_output(name, str(getattr(made, name)).lower())
    set_output("before", before)
    add_summary("\n".join(f"- {reason}" for reason in made.reasons))
    if json:
        say_json(made.model_dump(mode="json"))
        return
    for reason in made.reasons:
        say(reason)


@app.command()
def page(
    output: Annotated[Path, typer.Option(help="Folder to write the page into.")],
    report: Annotated[
        Path, typer.Option(help="The report of the model that serves; left out where there is none.")
    ] = Path("report/report.html"),
    publish: Annotated[bool, typer.Option("--publish", help="Push it to the branch gh-pages.")] = False,
) -> None:
    """Write the page of production: what serves, and its history out of git."""
    from mergeline.files import write_text
    from mergeline.github.actions import read_job
    from mergeline.github.base import REMOTE
    from mergeline.github.git import Git
    from mergeline.github.production import publish as push
    from mergeline.github.production import published, read_revisions
    from mergeline.manifest.schema import read_manifest
    from mergeline.release.history import history
    from mergeline.release.page import INDEX, Place, report_name, write_page

    git, manifest, job = Git(Path().resolve()), read_manifest(), read_job()
    stable = manifest.spec.stable
    reports = set(published(git, REMOTE)) if publish else set()
    if stable is not None and report.exists() and _judged(report) == stable.digest:
        write_text(output / report_name(stable.digest), report.read_text(encoding="utf-8"))
        reports.add(report_name(stable.digest))
    moments = history(read_revisions(git), manifest.metadata.name)
    place = Place(server_url=job.server_url, repository=job.repository) if job.repository else Place()
    write_text(output / INDEX, write_page(manifest, moments, place, reports))
    say(f"page: {short_path(output / INDEX)}, {len(moments)} moments of production")
    if publish:
        version = f"version {stable.version}" if stable else "no model"
        commit = push(git, REMOTE, output, f"{manifest.metadata.name}: {version}\n")
        progress(f"published as {commit[:12]} on gh-pages")


def _judged(report: Path) -> str | None:
    """The digest of the model that a report is about, as the verdict beside it says; None without such a verdict."""
    from mergeline.evaluate.results import GateVerdict
    from mergeline.release.proposal import VERDICT_FILE

    try:
        return GateVerdict.model_validate_json(report.with_name(VERDICT_FILE.name).read_bytes()).challenger_digest
    except (OSError, ValueError):
        return None
