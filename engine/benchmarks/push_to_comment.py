"""What a push costs until its comment stands: the steps' own work, on a local GitHub, without installing anything.

The verbs of `model.yml` in their order, each a process of its own as in a job. The peer is what the Swiss AI Center's
guide has in its workflow: `dvc repro` and one `cml comment`, without gate, checks or a commit; it is run in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "engine" / "dev" / "github"))

from local_github.github import LocalGitHub, local_github  # noqa: E402 - engine/dev/ is no package of the installation
from local_github.scratch import Clone, push_template  # noqa: E402
from local_github.tools import find_tools  # noqa: E402

NAME = "acme/flights"
TOKEN = {"contents": "write", "pull-requests": "write", "issues": "write"}


class Bench:
    """A repository on the local GitHub, and clones as the jobs have them."""

    def __init__(self, github: LocalGitHub, folder: Path) -> None:
        self.github, self.folder = github, folder
        github.create(NAME)
        push_template(github, NAME, ROOT, folder / "template", {})
        self.person = Clone.make(github, folder / "person", NAME, "alice")
        self.tools = find_tools()

    def checkout(self, name: str, commit: str) -> Path:
        """A job's clone at a commit."""
        clone = Clone.make(self.github, self.folder / name, NAME, "alice")
        clone.git("checkout", "--quiet", commit)
        return clone.folder

    def run(self, folder: Path, *command: str) -> float:
        """Seconds that one step takes."""
        place = Path(sys.executable).parent
        token = self.github.job_token(NAME, TOKEN)
        environment = {
            **os.environ,
            **self.github.environment(),
            "PATH": f"{place}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{folder}/src:{folder}/engine/src",
            "GITHUB_REPOSITORY": NAME,
            "GITHUB_SERVER_URL": self.github.url,
            "GITHUB_API_URL": self.github.api_url,
            "GITHUB_TOKEN": token,
            "REPO_TOKEN": token,
            "ITERATIVE_DO_NOT_TRACK": "1",
            "DVC_NO_ANALYTICS": "1",
            "CI": "true",
        }
        start = time.monotonic()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return seconds

    def pull(self, branch: str, message: str) -> tuple[int, str]:
        """The person pushes what was edited; the pull request's number and head."""
        head = self.person.push(branch, message)
        number = int(self.github.open_pull(NAME, branch, by="alice", title=message)["number"])
        return number, head

    def ours(self, branch: str, message: str) -> dict[str, float]:
        """The steps of `model.yml`."""
        number, head = self.pull(branch, message)
        work, trusted = self.checkout(f"{branch}-head", head), self.checkout(f"{branch}-main", "origin/main")
        proposal = str(self.folder / f"{branch}-proposal")
        pull = ("--pull", str(number))
        return {
            "propose": self.run(work, "mergeline", "ci", "bundle", proposal, *pull),
            "apply": self.run(trusted, "mergeline", "ci", "apply", proposal, *pull, "--head", head),
            "comment": self.run(trusted, "mergeline", "ci", "comment", proposal, *pull),
        }

    def peer(self, branch: str, message: str) -> dict[str, float]:
        """`dvc repro` and a comment."""
        number, head = self.pull(branch, message)
        work = self.checkout(f"{branch}-head", head)
        (work / "peer.md").write_text("# Report\n")
        steps = {"dvc pull, repro": self.run(work, "dvc", "repro", "--pull")}
        if self.tools.cml:
            command = (self.tools.cml, "comment", "update", "--publish=false", f"--target=pr/{number}", "peer.md")
            steps["cml"] = self.run(work, *command)
        return steps


def tell(title: str, steps: dict[str, float]) -> float:
    """Print one row for each step, and the sum."""
    total = sum(steps.values())
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items())
    print(f"{title:38} {total:6.1f} s   ({parts})")
    return total


def main() -> None:
    """Two pushes, and the peer's."""
    with tempfile.TemporaryDirectory() as scratch, local_github(Path(scratch) / "github") as github:
        bench = Bench(github, Path(scratch))
        readme = bench.person.folder / "README.md"
        readme.write_text(readme.read_text() + "\nOne line more.\n")
        nothing = tell("no input of the model changed", bench.ours("words", "More words"))
        bench.person.update()
        bench.person.set_params(max_iter="60")
        ours = tell("params changed", bench.ours("sixty", "Sixty trees"))
        bench.person.update()
        bench.person.set_params(max_iter="61")
        peer = tell("params changed, dvc repro and cml alone", bench.peer("peer", "Sixty-one trees"))
        print(f"ours / peer: {ours / peer:.2f}; targets: {nothing:.1f} s of 15 s, {ours:.1f} s of 60 s")


if __name__ == "__main__":
    main()
