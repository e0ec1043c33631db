"""What only workflows call: build a proposal's bundle, check and apply it, comment, decide, publish."""

from __future__ import annotations

import os
import sys
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from mergeline.ci.announce import announce as tell
from mergeline.ci.attestation import check_attestations, write_subjects
from mergeline.ci.bundle import ApplyOutcome, read_bundle
from mergeline.ci.comment import comment_after_run, comment_on_pull, read_run
from mergeline.ci.comment_text import CommentContext
from mergeline.ci.plan import is_being_set_up, is_still_released, last_deployed, nothing_yet, plan_merge
from mergeline.ci.scope import scope as scope_of
from mergeline.cli.app import BaseOption, Json, chosen_homes, params_of
from mergeline.cli.output import of_model, progress, say, say_json, short_path, tell_found
from mergeline.errors import ForgeError
from mergeline.evaluate.results import Check, GateVerdict
from mergeline.files import write_text
from mergeline.github.actions import add_summary, read_event, read_job, set_output
from mergeline.github.base import REMOTE
from mergeline.github.forge import GitHubForge, open_github
from mergeline.github.git import Git
from mergeline.github.open_proposal import open_forge
from mergeline.github.production import publish as push
from mergeline.github.production import published, read_revisions
from mergeline.github.sanitize import code_block, defuse, item
from mergeline.home import Home, choose_home, find_homes
from mergeline.manifest.schema import MANIFEST_FILE, Release, manifest_path, read_manifest
from mergeline.params import release_in
from mergeline.release.history import history
from mergeline.release.page import INDEX, Place, Served, Serves, report_name, write_overview, write_page
from mergeline.release.proposal import VERDICT_FILE, ProposalStatus
from mergeline.store.objects import configured_store

ci = typer.Typer(help="What the workflows in .github/ call.", no_args_is_help=True, rich_markup_mode=None)

FolderArgument = Annotated[
    Path, typer.Argument(help="The folder of a bundle, as `mergeline ci bundle` wrote it, or of one for each model.")
]


@ci.command()
def bundle(  # noqa: PLR0917 - typer takes each option as a parameter
    folder: Annotated[Path, typer.Argument(help="Folder to write the bundle into.")],
    pull: Annotated[int | None, typer.Option("--pull", min=1, help="Number of the pull request.")] = None,
    ingest: Annotated[
        Path | None, typer.Option("--ingest", help="Fresh partitions to add, as `retrain --output` wrote them.")
    ] = None,
    base: BaseOption = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model to make, of several; the one of this folder if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Reproduce and judge the last commit, and write the proposal's bundle, and nothing else.

    It ends with 0 whatever the verdict, and with 1 for an error; the bundle is written in every case.
    """
    from mergeline.ci.build_bundle import build_bundle

    root = choose_home(Path().resolve(), model).folder
    told = build_bundle(root, folder, pull, base, progress, ingest.resolve() if ingest else None)
    set_output("state", told.state)
    set_output("digest", told.digest or "")
    report = read_bundle(folder).report
    add_summary(report or f"**{told.state}**: {told.headline}")
    if json:
        say_json(told.model_dump(mode="json"))
    else:
        say(f"{told.state}. {told.headline}")
        say(f"written to {folder}; next: mergeline ci apply {folder} --pull N --head {told.head}")
    if told.state is ProposalStatus.FAILED:
        error = told.error
        words = f"failed: {error.where}: {error.what}\n  hint: {error.hint}" if error else "failed"
        add_summary(code_block(defuse(words)))
        progress(words)
        sys.exit(1)


@ci.command()
def apply(
    folder: FolderArgument,
    head: Annotated[str, typer.Option("--head", help="The commit that it must have been made of.")],
    pull: Annotated[int | None, typer.Option("--pull", min=1, help="Number of the pull request.")] = None,
    branch: Annotated[
        str, typer.Option("--branch", help="Instead: a branch of its own, whose pull request is opened or updated.")
    ] = "",
    json: Json = False,
) -> None:
    """Check the proposals, and push them to their branch at once. Ends with 1 if one is refused; then none was."""
    from mergeline.ci.apply import apply as put

    if (pull is None) == (not branch):
        raise typer.BadParameter("give either --pull or --branch")
    applied = put(Path().resolve(), folder, head=head, pull=pull, branch=branch)
    results = list(applied.values())
    done = [one for one in results if one.outcome is not ApplyOutcome.NOTHING] or results
    set_output("outcome", done[0].outcome)
    for name in ("commit", "pull"):
        set_output(name, next((str(value) for one in done if (value := getattr(one, name)) is not None), ""))
    set_output("digest", " ".join(one.digest for one in results if one.digest))
    for name, path in zip(("subjects", "predicate"), write_subjects(folder, applied), strict=True):
        set_output(name, path)
    if json:
        say_json({name: one.model_dump(mode="json") for name, one in applied.items()})
    else:
        for name, one in applied.items():
            say(f"{name}: " * bool(name) + f"{one.outcome}: {one.commit[:12] if one.commit else 'no commit'}")
    for error in dict.fromkeys(one.error for one in results if one.error is not None):
        progress(f"{error.where}: {error.what}\n  hint: {error.hint}")
    if done[0].outcome is ApplyOutcome.REFUSED:
        sys.exit(1)


@ci.command()
def scope(
    pull: Annotated[str, typer.Option("--pull", help="Number of the pull request of a run by hand, or nothing.")] = "",
    branch: Annotated[str, typer.Option("--branch", help="Instead: a branch of its own.")] = "",
    model: Annotated[str, typer.Option("--model", help="With --branch: the model that it proposes.")] = "",
) -> None:
    """Say what a run has to do, and name its commit. By hand it refuses forks, and runs from other branches."""
    git = Git(Path().resolve())
    found = scope_of(git, open_forge(git), os.environ, pull=int(pull or 0) or None, branch=branch, model=model)
    set_output("head", found.head)
    set_output("models", dumps(found.models))
    for name in ("tests", "check"):
        set_output(name, str(getattr(found, name)).lower())
    add_summary(item(found.reason))
    say(found.reason)


@ci.command()
def check(folder: FolderArgument = Path("told/proposal"), json: Json = False) -> None:
    """Conclude from the jobs in NEEDS whether the pull request may be merged. Ends with 1 if it may not."""
    from mergeline.ci.required_check_run import check as conclude

    conclusion = conclude(Path().resolve(), os.environ, folder)
    add_summary(f"### {conclusion.title}\n\n{conclusion.summary}")
    set_output("refused", "\n".join(conclusion.refused))
    if json:
        say_json(conclusion.model_dump(mode="json"))
    else:
        say("\n".join((conclusion.title, *conclusion.reasons)))
    if not conclusion.accepted:
        sys.exit(1)


@ci.command()
def comment(
    folder: FolderArgument,
    pull: Annotated[int | None, typer.Option("--pull", help="Number of the pull request.")] = None,
    run_event: Annotated[
        Path | None,
        typer.Option("--run-event", help="Event of a run that has ended: the pull request is looked up by it."),
    ] = None,
    attested: Annotated[
        str, typer.Option("--attested", envvar="MERGELINE_ATTESTED", help="How the step that attests ended.")
    ] = "",
) -> None:
    """Tell a pull request what its proposal came to, in one comment that is kept up to date."""
    if (pull is None) == (run_event is None):
        raise typer.BadParameter("give either --pull or --run-event")
    git = Git(Path().resolve())
    forge = open_forge(git)
    setting = CommentContext(
        attested=attested,
        signed=_signed(Path().resolve()),
        page_url=os.environ.get("MERGELINE_PAGE_URL", ""),
        files_url=os.environ.get("MERGELINE_FILES_URL", ""),
        refused=tuple(os.environ.get("MERGELINE_REFUSED", "").splitlines()),
        red=os.environ.get("MERGELINE_CHECK") == "failure",
    )
    if pull is not None:
        told = comment_on_pull(forge, folder, pull, read_job(), setting, git)
    elif run_event is None or not isinstance(forge, GitHubForge):
        raise ForgeError("only GitHub has runs", where="--run-event", hint="give --pull")
    else:
        told = comment_after_run(forge, folder, read_run(read_event(run_event)), setting, git)
    say(told)


def _signed(root: Path) -> bool:
    """Whether every model of the repository must be signed."""
    homes = find_homes(root).values()
    return all(params_of(home).release.signing.policy == "required" for home in homes)


@ci.command()
def attested(
    required: Annotated[
        bool,
        typer.Option(
            "--required", envvar="MERGELINE_ATTESTATION_REQUIRED", help="A model without an attestation fails."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Check that this repository's workflow attested what is released. Ends with 1 if somebody else did."""
    forge = open_github(Git(Path().resolve()))
    if forge is None:
        raise ForgeError(
            "only GitHub keeps attestations, and origin is not there",
            where="git remote get-url origin",
            hint="rely on the signature of the model folder: release.signing in params.yaml",
        )
    checks: list[Check] = []
    for name, home in chosen_homes(every=True).items():
        root = home.folder
        signed = params_of(home).release.signing.policy == "required"
        fetch, manifest = configured_store(root).fetch_folder, read_manifest(root / MANIFEST_FILE)
        checks += of_model(name, check_attestations(forge.client, manifest, fetch, signed=signed, required=required))
    add_summary("\n".join(f"- {check.name}: **{check.status.value}**, {check.meaning}" for check in checks))
    tell_found(checks, json=json)


@ci.command()
def newest() -> None:
    """Say whether main's manifest is still this commit's. If not, a later deployment publishes what is newer."""
    still = is_still_released(Git(Path().resolve()), chosen_homes(every=True).values())
    words = "this commit's manifest is main's" if still else "skipped: main has another manifest by now, deployed later"
    set_output("newest", str(still).lower())
    add_summary(f"- {words}")
    say(words)


@ci.command()
def plan(
    before: Annotated[
        str, typer.Option(help="The commit deployed last; the last success of deploy.yml on GitHub if not given.")
    ] = "",
    json: Json = False,
) -> None:
    """Say what a merge leaves to do: release, image, page, a pipeline that is behind."""
    git = Git(Path().resolve())
    if not before:
        try:
            forge = open_github(git)
            before = (last_deployed(git, forge.client) if forge else None) or ""
        except ForgeError as error:
            progress(f"warning: {error}")  # not known: everything is done, which is never wrong
    event = os.environ.get("GITHUB_EVENT_PATH")
    unadopted = bool(event) and is_being_set_up(git.folder, read_event(Path(event or "")))
    asked = os.environ.get("MERGELINE_IMAGE") == "on"
    made = nothing_yet() if unadopted else plan_merge(git, chosen_homes(every=True), before, image_asked=asked)
    for output in ("released", "report", "image", "page"):
        set_output(output, str(getattr(made, output)).lower())
    set_output("stale", dumps([one.model_dump() for one in made.stale]) if made.stale else "")
    set_output("environments", dumps(made.environments))
    set_output("before", before)
    add_summary("\n".join(f"- {reason}" for reason in made.reasons))
    if json:
        say_json(made.model_dump(mode="json"))
        return
    for reason in made.reasons:
        say(reason)


@ci.command()
def announce(
    before: Annotated[str, typer.Option(help="The commit announced last; the newest change alone if not known.")] = "",
) -> None:
    """Tell merged pull requests where their model serves now, and open ones that they are outdated."""
    git = Git(Path().resolve())
    lines = tell(git, open_forge(git), before) or ("nothing to tell",)
    add_summary("\n".join(f"- {line}" for line in lines))
    say("\n".join(lines))


@ci.command()
def page(
    output: Annotated[Path, typer.Option(help="Folder to write the page into.")],
    report: Annotated[
        Path, typer.Option(help="The report of the model that serves; left out where there is none.")
    ] = Path("report/report.html"),
    publish: Annotated[bool, typer.Option("--publish", help="Push it to the branch gh-pages.")] = False,
) -> None:
    """Write the page of production: what serves, and its history out of git; of several models one page for each."""
    git, job, homes = Git(Path().resolve()), read_job(), chosen_homes(every=True)
    place = Place(server_url=job.server_url, repository=job.repository) if job.repository else Place()
    there = published(git, REMOTE) if publish else ()
    models: dict[str, Served] = {}
    for name, home in homes.items():
        manifest, folder, own = read_manifest(home.folder / MANIFEST_FILE), output / name, home.folder / report
        stable, before = manifest.spec.stable, f"{name}/" if name else ""
        reports = {path.removeprefix(before) for path in there if path.startswith(before)}
        if stable is not None and own.exists() and _judged(own) == stable.digest:
            write_text(folder / report_name(stable.digest), own.read_text(encoding="utf-8"))
            reports.add(report_name(stable.digest))
        moments = history(read_revisions(git, path=home.path(MANIFEST_FILE)), manifest.metadata.name)
        page = write_page(manifest, moments, place, reports, _serving(git, home), model=home.model)
        write_text(folder / INDEX, page)
        say(f"page: {short_path(folder / INDEX)}, {len(moments)} moments of production")
        models[name] = Served(manifest, moments, _live(Path("build/watch") / name / "watch.json", stable))
    if len(models) > 1:
        write_text(output / INDEX, write_overview(models))
    if publish:
        stables = {one.manifest.metadata.name: one.manifest.spec.stable for one in models.values()}
        versions = [
            f"{name}: {f'version {stable.version}' if stable else 'no model'}" for name, stable in stables.items()
        ]
        commit = push(git, REMOTE, output, f"{', '.join(versions)}\n")
        progress(f"published as {commit[:12]} on gh-pages")


def _serving(git: Git, home: Home) -> list[Serves]:
    """What each environment serves at HEAD; nothing where there is only one."""
    from mergeline.github.served_releases import serving_since

    names = release_in(home.folder).environments
    paths = {name: manifest_path(names, name) for name in names} if len(names) > 1 else {}
    found = {name: read_manifest(home.folder / path) for name, path in paths.items() if (home.folder / path).exists()}
    return [
        Serves(name, one.spec, serving_since(git, "HEAD", one.metadata.name, home.path(paths[name])))
        for name, one in found.items()
    ]


def _live(path: Path, stable: Release | None) -> str:
    """What the last look at production found of the stable model, where `mergeline watch` has run here."""
    if stable is None or not path.exists():
        return ""

    from mergeline.retrain.pull_request import read_watch

    look = read_watch(path)
    return f"{look.outcome}: {look.headline}" if look.digest == stable.digest else ""


def _judged(report: Path) -> str | None:
    """The digest of the model that a report is about, as the verdict beside it says; None without such a verdict."""
    try:
        return GateVerdict.model_validate_json(report.with_name(VERDICT_FILE.name).read_bytes()).challenger_digest
    except (OSError, ValueError):
        return None
