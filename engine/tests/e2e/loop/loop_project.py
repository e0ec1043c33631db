"""A scratch repository of another team: their package and data, this engine, and a local forge."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from forge_with_buttons import ForgeWithButtons
from mergeline.github.git import Git
from mergeline.manifest.edit import empty_manifest

ROOT = Path(__file__).parents[4]
DEAD_SERVER = "http://127.0.0.1:9"
"""Recording a run takes MLflow some seconds; a server that is not there costs a warning and no time."""
IGNORED = "/build/\n/data\n/model\n/evaluation\n/report\n/mlflow.db*\n/mlartifacts/\n__pycache__/\n"


class Project:
    """One repository, and the verbs run in it as a person would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git = Git(root)

    def moved(self) -> "Project":
        """The same after it was copied: the remote lies beside it again."""
        self.git.run("remote", "set-url", "origin", ForgeWithButtons(self.root.parent / "forge").url)
        return self

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a tool that works here: this repository's code first."""
        place = Path(sys.executable).parent
        return {
            **os.environ,
            "PATH": f"{place}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "COLUMNS": "200",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "dvc"),
        }

    def run(self, *command: str, settings: dict[str, str] | None = None):
        """Run a tool of this environment in the repository, with these variables added."""
        return subprocess.run(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            cwd=self.root,
            env=self.environment | (settings or {}),
            capture_output=True,
            text=True,
            check=False,
        )

    def mergeline(self, *arguments: str, code: int = 0, settings: dict[str, str] | None = None):
        """Run one verb, and expect this exit code."""
        done = self.run("mergeline", *arguments, settings=settings)
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def set_params(self, **sections) -> None:
        """Replace keys of sections of params.yaml."""
        path = self.root / "params.yaml"
        values = yaml.safe_load(path.read_text())
        for name, section in sections.items():
            values[name] = {**values[name], **section} if isinstance(section, dict) else section
        path.write_text(yaml.safe_dump(values))

    def state(self) -> dict[str, bytes]:
        """The files that a refused proposal must leave alone."""
        files = [self.root / name for name in ("dvc.lock", "data.dvc", "deploy/manifest.yaml")]
        files += [path for path in (self.root / "store").rglob("*") if path.is_file()]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files if path.exists()}

    def commit_all(self, message: str) -> None:
        """Commit and push everything to main."""
        self.git.run("add", "--all")
        self.git.run("commit", "--quiet", "--message", message, settings=self.git.identity())
        self.git.run("push", "--quiet", "origin", "main")

    def release_first(self) -> None:
        """Propose the first model and merge it by hand."""
        self.mergeline("propose")
        self.commit_all("First model")


def make_project(root: Path, package: Path, params: dict) -> Project:
    """A repository whose package is a copy of `package`; the data folder is there already."""
    shutil.copytree(package, root / "src" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc" / "config")
    (root / ".dvc" / ".gitignore").write_text("/tmp\n/cache\n/config.local\n")
    (root / ".dvcignore").write_text("__pycache__\n")
    (root / ".gitignore").write_text(IGNORED)
    shutil.copy(ROOT / "uv.lock", root / "uv.lock")
    (root / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text().replace("src/flights", f"src/{package.name}"))
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "deploy").mkdir()
    (root / "deploy" / "manifest.yaml").write_text(empty_manifest(params["name"]))
    forge = ForgeWithButtons.create(root.parent / "forge")
    project = Project(root)
    Git.init(root)
    project.git.run("remote", "add", "origin", forge.url)
    assert project.run("dvc", "add", "--quiet", "data").returncode == 0
    project.commit_all("Start")
    return project


def kill_when(project, seen, *verb):
    """Run a verb, and kill it with all its children as soon as `seen` is true of its session."""
    with (project.root.parent / "killed.log").open("w+") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("mergeline")), *verb],
            cwd=project.root,
            env=project.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 120
            while not seen(process.pid):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    pytest.fail(f"it was not seen:\n{log.read()}")
                time.sleep(0.005)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def runs_stage(session, stage):
    """Whether a process of this session runs the stage."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if os.getsid(int(folder.name)) == session and words[-2:-1] == [stage.encode()]:
                return True
        except (OSError, ProcessLookupError):
            continue
    return False
