"""What a pull request costs in minutes as GitHub bills them: each job that ran, rounded up to a whole one.

A pull request that changes params and one that changes words, each with its merge, on the local GitHub with the real
workflow files. Times are act's, job by job. A job's environment comes from a cache there, as from setup-uv's.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "engine" / "dev" / "github"))

from local_github.github import LocalGitHub, local_github  # noqa: E402 - engine/dev/ is no package of the installation
from local_github.runner import Actions  # noqa: E402
from local_github.scratch import Clone, push_template  # noqa: E402
from local_github.state import Run  # noqa: E402
from local_github.tools import find_tools  # noqa: E402
from local_github.warm import warm_environment  # noqa: E402

NAME = "acme/flights"
PARAMS_BOUND, DOCS_BOUND = 12, 2


def billed(runs: Sequence[Run]) -> int:
    """The minutes of these runs: a job that was skipped takes no runner, any other takes one for a minute at least."""
    return sum(max(1, math.ceil(job.seconds / 60)) for run in runs for job in run.jobs if job.conclusion != "skipped")


def merged(github: LocalGitHub, clone: Clone, branch: str, change: Callable[[], None]) -> list[Run]:
    """Open a pull request and merge it; everything that ran.

    Raises:
        SystemExit: it could not be merged.
    """
    actions = Actions(github, venv=warm_environment())
    clone.update()
    change()
    clone.push(branch, branch)
    number = int(github.open_pull(NAME, branch, by="alice", title=branch)["number"])
    runs = actions.settle()
    github.approve(NAME, number, by="carol")
    status, words = github.merge(NAME, number, by="alice")
    if status != 200:
        raise SystemExit(f"{branch} could not be merged: {words}")
    return runs + actions.settle()


def tell(title: str, runs: Sequence[Run], bound: int) -> bool:
    """Print each run with its jobs, then the sum; whether it is within the bound."""
    for run in runs:
        ran = [f"{job.name} {job.seconds:.0f} s" for job in run.jobs if job.conclusion != "skipped"]
        print(f"  {run.file} on {run.event.name}: {billed([run])} min ({', '.join(ran) or 'every job skipped'})")
    print(f"{title}: {billed(runs)} billed minutes of {bound}", flush=True)
    return billed(runs) <= bound


def main() -> None:
    """Both kinds of pull request.

    Raises:
        SystemExit: one costs more than its bound.
    """
    with tempfile.TemporaryDirectory() as scratch, local_github(Path(scratch) / "github", find_tools()) as github:
        github.create(NAME)
        push_template(github, NAME, ROOT, Path(scratch) / "template", {})
        github.import_ruleset(NAME, ROOT / ".github" / "rulesets" / "main.json")
        github.take_as_deployed(NAME)
        clone = Clone.make(github, Path(scratch) / "alice", NAME, "alice")
        page = clone.folder / "docs" / "release.md"
        words = merged(github, clone, "words", lambda: page.write_text(page.read_text() + "\nOne line more.\n"))
        cheap = tell("a pull request that changes words, with its merge", words, DOCS_BOUND)
        params = merged(github, clone, "sixty-trees", lambda: clone.set_params(max_iter="60"))
        good = tell("a pull request that changes params, with its merge", params, PARAMS_BOUND)
    raise SystemExit(not (cheap and good))


if __name__ == "__main__":
    main()
