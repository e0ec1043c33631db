"""The command line: one verb, one function of the engine."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mergeline.evaluate.results import Check, GateVerdict
    from mergeline.release.propose import Proposal

app = typer.Typer(
    name="mergeline",
    help="Pull requests train and judge scikit-learn models, and the merge is the release.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

REJECTED, INCONCLUSIVE = 3, 4
"""Exit codes of `gate` and `propose`: the tool worked, and the model may not be released."""

BaseOption = Annotated[
    str | None, typer.Option("--base", help="Branch or commit to be merged into; main if not given.")
]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON on standard output.")]


@app.command()
def validate() -> None:
    """Check every partition of the data (a pipeline stage)."""
    from mergeline.dataset.validate import VALIDATION_FILE, require_valid
    from mergeline.dataset.validate import validate as check
    from mergeline.files import write_json
    from mergeline.params import read_params

    report = check(Path(), read_params())
    require_valid(report)
    write_json(VALIDATION_FILE, report.model_dump(mode="json"))
    rows = sum(partition.rows for partition in report.partitions)
    _progress(f"valid: {len(report.partitions)} partitions, {rows:,} rows, {report.columns} columns")


@app.command()
def split() -> None:
    """Divide the data by time into training rows and holdout (a pipeline stage)."""
    from mergeline.dataset.schema import load_schema
    from mergeline.dataset.split import SPLIT_FILE, make_split
    from mergeline.files import write_json
    from mergeline.params import read_params

    params = read_params()
    result = make_split(Path(), params.data, params.split, load_schema(params.data))
    write_json(SPLIT_FILE, result.model_dump(mode="json"))
    _progress(
        f"split: train on {', '.join(part.partition for part in result.train)}; "
        f"judge on {', '.join(part.partition for part in result.holdout)}"
    )


@app.command()
def train() -> None:
    """Fit the pipeline and write the model folder (a pipeline stage)."""
    from mergeline.dataset.split import SPLIT_FILE, read_split
    from mergeline.model.artifact import MODEL_FOLDER
    from mergeline.model.train import train as fit
    from mergeline.params import read_params

    digest = fit(Path().resolve(), read_params(), read_split(SPLIT_FILE), MODEL_FOLDER)
    _progress(f"trained: {digest}")


@app.command()
def evaluate() -> None:
    """Measure the model on the holdout (a pipeline stage)."""
    from mergeline.dataset.split import SPLIT_FILE, read_split
    from mergeline.evaluate.evaluate import evaluate as measure
    from mergeline.evaluate.evaluate import write_evaluation
    from mergeline.evaluate.holdout import read_holdout
    from mergeline.evaluate.plots import EVALUATION_FOLDER
    from mergeline.model.artifact import MODEL_FOLDER, load_model
    from mergeline.params import read_params

    params = read_params()
    model = load_model(MODEL_FOLDER, trusted_types=params.model.trusted_types)
    rows, holdout = read_holdout(Path(), params, read_split(SPLIT_FILE))
    result = measure(model, rows, holdout, params)
    write_evaluation(result, EVALUATION_FOLDER)
    value = next((m.estimate.value for m in result.metrics if m.name == params.gate.metric), float("nan"))
    _progress(
        f"evaluated: {params.gate.metric} {value:.4f} on {holdout.rows:,} rows of {', '.join(holdout.partitions)}"
    )


@app.command()
def gate(base: BaseOption = None, json: Json = False) -> None:
    """Judge the model in the work tree beside the champion; write nothing. Ends with 3 if it is rejected."""
    from mergeline.forge.base import read_base
    from mergeline.params import read_params
    from mergeline.release.judge import judge_work_tree

    root, params = Path().resolve(), read_params()
    judged = judge_work_tree(root, params, read_base(root, params.name, base).manifest)
    _tell(judged.verdict, json=json)


@app.command()
def propose(
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Commit, push, and open or update the pull request.")
    ] = False,
    base: BaseOption = None,
    json: Json = False,
) -> None:
    """Reproduce the pipeline, judge the model, and write the manifest. Ends with 3 if it is rejected."""
    from mergeline.forge.base import read_base, refresh_base
    from mergeline.forge.git import Git
    from mergeline.forge.submit import open_forge, submit
    from mergeline.params import read_params
    from mergeline.release.propose import State
    from mergeline.release.propose import propose as make

    root, params = Path().resolve(), read_params()
    if pull_request and base:
        raise typer.BadParameter("a pull request goes into the base branch; leave out --base")
    if pull_request:
        open_forge(Git(root))  # before minutes of training, not after
    stale = None if base else refresh_base(root)
    proposal = make(root, params, read_base(root, params.name, base), _progress)
    for notice in filter(None, (stale, *proposal.notices)):
        _progress(f"warning: {notice}")
    if proposal.judged is None:
        if json:
            _json({"state": proposal.state, "version": proposal.version, "digest": proposal.digest})
            return
        _say(f"unchanged: version {proposal.version} is what is served already; there is nothing to propose")
        return
    if proposal.state is State.PROPOSED and pull_request:
        pull = submit(root, params, proposal)
        _progress(f"pull request #{pull.number} from {pull.branch}: {pull.url}")
    _tell(proposal.judged.verdict, json=json, then=_next_step(proposal, pull_request=pull_request))


@app.command()
def report(base: BaseOption = None) -> None:
    """Judge the model in the work tree and write report/, without proposing it."""
    from mergeline.forge.base import read_base
    from mergeline.params import read_params
    from mergeline.release.judge import judge_work_tree
    from mergeline.release.propose import write_report

    root, params = Path().resolve(), read_params()
    found = read_base(root, params.name, base)
    judged = judge_work_tree(root, params, found.manifest)
    reports = write_report(root, params, found, judged, version=None)
    _say(f"report: {_short(reports.markdown)}, {_short(reports.page)}, {_short(reports.card)}")


@app.command()
def verify(json: Json = False) -> None:
    """Check that the manifest, the store, the lineage and the signatures agree. Ends with 1 if they do not."""
    from mergeline.evaluate.results import Status
    from mergeline.params import read_params
    from mergeline.release.verify import verify as check

    checks = check(Path().resolve(), read_params())
    if json:
        _json([found.model_dump(mode="json") for found in checks])
    else:
        _table(checks)
    if any(found.status is Status.FAIL for found in checks):
        sys.exit(1)


@app.command()
def register() -> None:
    """After a merge: make the MLflow registry say what the manifest says."""
    from mergeline.params import read_params
    from mergeline.release.manifest import read_manifest
    from mergeline.release.registry import register as make

    registered = make(read_manifest(), read_params(), Path().resolve())
    if registered.warning:
        _progress(f"warning: {registered.warning}")
    for alias, version in registered.versions.items():
        _say(f"registered: {alias} is version {version}")


@app.command()
def rollback(reason: Annotated[str, typer.Argument(help="What failed, in one sentence.")]) -> None:
    """Make the previous model the stable one in the manifest, and put a hold on what failed."""
    from mergeline.documents import read_text
    from mergeline.files import write_text
    from mergeline.release.edit import rollback as edit
    from mergeline.release.manifest import MANIFEST_FILE, read_manifest

    write_text(MANIFEST_FILE, edit(read_text(MANIFEST_FILE), reason))
    stable = read_manifest().spec.stable
    _say(f"{MANIFEST_FILE} now serves version {stable.version if stable else '-'}, and holds what failed")
    _say("next: mergeline verify, then commit it and open a pull request")


@app.command()
def lift(digest: Annotated[str, typer.Argument(help="The digest under a hold, as the manifest names it.")]) -> None:
    """Take the hold on a model off the manifest, so that it may be proposed again."""
    from mergeline.documents import read_text
    from mergeline.files import write_text
    from mergeline.release.edit import lift_hold
    from mergeline.release.manifest import MANIFEST_FILE

    write_text(MANIFEST_FILE, lift_hold(read_text(MANIFEST_FILE), digest))
    _say(f"lifted: {digest} may be proposed again; commit {MANIFEST_FILE}")


@app.command()
def keys(
    folder: Annotated[Path, typer.Argument(help="Where to write signing.key and signing.pub: outside the repository.")],
) -> None:
    """Make a key pair for signing model folders; keep the private key out of the repository."""
    from mergeline.release.sign import KEY_VARIABLE, make_key_pair

    private, public = make_key_pair(folder)
    _say(f"made {private} (keep it secret; set {KEY_VARIABLE} to its path) and {public} (commit it)")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 3000,
    manifest: Annotated[Path, typer.Option(help="The manifest to follow.")] = Path("deploy/manifest.yaml"),
    store: Annotated[
        str | None, typer.Option(help="Folder or address of the store; the configured one if not given.")
    ] = None,
) -> None:
    """Serve what the manifest says, and follow it when it changes."""
    from mergeline.model.store import configured_store
    from mergeline.serve.run import serve as run

    run(Path(), host=host, port=port, manifest=manifest, store=store or configured_store(Path()).url)


def _tell(verdict: GateVerdict, *, json: bool, then: str = "") -> None:
    """The verdict on the terminal, and the exit code that it means."""
    from mergeline.evaluate.results import Outcome

    if json:
        _json(verdict.model_dump(mode="json"))
    else:
        _table(verdict.checks)
        _say(f"{'accepted' if verdict.accepted else 'rejected'}. {verdict.headline}")
        if then:
            _say(then)
    if not verdict.accepted:
        sys.exit(INCONCLUSIVE if verdict.outcome is Outcome.INCONCLUSIVE else REJECTED)


def _next_step(proposal: Proposal, *, pull_request: bool) -> str:
    reports = proposal.reports
    place = f"report: {_short(reports.markdown)}, {_short(reports.page)}" if reports else ""
    if proposal.version is None:
        return f"{place}\nnext: change the model, and propose again; nothing but the report was written"
    if pull_request:
        return f"{place}\nnext: read the report, and merge the pull request to release version {proposal.version}"
    return f"{place}\nnext: commit dvc.lock, deploy/ and store/, or run: mergeline propose --pull-request"


def _table(checks: Sequence[Check]) -> None:
    """One line a check; what a failed or doubtful one means stands below it."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    styles = {"pass": "green", "fail": "bold red", "warn": "yellow", "skip": "dim"}
    name_width = max(len(check.name) for check in checks)
    for check in checks:
        style = styles[check.status.value]
        line = Table.grid(padding=(0, 2))
        line.add_column(width=4)
        line.add_column(width=name_width)
        line.add_column(ratio=1)
        found = Text.assemble(_shorten(check.value), (f"   ({_shorten(check.bound)})", "dim"))
        line.add_row(Text(check.status.value, style=style), check.name, found)
        console.print(line)
        if check.status.value in {"fail", "warn"}:
            console.print(Padding(Text(check.meaning, style=style), (0, 0, 0, 6)))


def _shorten(value: str) -> str:
    """A digest by its first digits: the report and the manifest have it whole."""
    import re

    return re.sub(r"\b(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1…", value)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _json(value: object) -> None:
    import json

    _say(json.dumps(value, indent=1, ensure_ascii=False))


def _progress(line: str) -> None:
    """A line for people; standard output stays the result's."""
    sys.stderr.write(f"· {line}\n")
    sys.stderr.flush()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    """Run one verb; a known error is told in one piece and ends with code 1."""
    from mergeline.errors import MergelineError

    # Threads of a numeric library that wait for each other asleep: spinning ones cost minutes on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Importing scikit-learn makes a million objects that all stay: looking through them again and again for garbage
    # takes a fifth of the time.
    gc.set_threshold(200_000, 50, 50)
    try:
        app()
    except MergelineError as error:
        sys.stderr.write(f"mergeline: {error}\n")
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        sys.stderr.write(f"mergeline: {error.filename or 'a file'}: cannot be written: {error.strerror}\n")
        sys.stderr.write("  mend: make room, or take the right to write there; nothing was half written\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
