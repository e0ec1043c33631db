"""What the stand-ins do inside a job: each takes its action's inputs, and leaves what its action would leave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

Inputs = Mapping[str, str]

UV = f"""#!/bin/sh
if [ "$1" = sync ] && [ "$PWD" = "$GITHUB_WORKSPACE" ] && [ ! -e .venv ]; then
    exec "$LOCAL_GITHUB_PYTHON" "{Path(__file__).with_name("job_uv.py")}" "$@"
fi
exec "$LOCAL_GITHUB_UV" "$@"
"""


def main() -> int:
    """Run the stand-in that is named, with the inputs of the step."""
    inputs = {name: str(value) for name, value in json.loads(os.environ["INPUTS"]).items()}
    return _ACTIONS[sys.argv[1]](inputs)


def checkout(inputs: Inputs) -> int:
    """Fetch from the server, as the real one does: nothing of the run's own folder is used."""
    server, here = os.environ["GITHUB_SERVER_URL"], os.environ["GITHUB_REPOSITORY"]
    name, ref = inputs["repository"] or here, inputs["ref"]
    folder = Path(os.environ["GITHUB_WORKSPACE"], inputs["path"])
    folder.mkdir(parents=True, exist_ok=True)
    commit = os.environ["LOCAL_GITHUB_SHA"] if not ref and name == here else ""
    wanted = ref or (os.environ["LOCAL_GITHUB_REF"] if name == here else "HEAD")

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"::error::git {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    if "origin" not in git("remote").split():
        git("remote", "add", "origin", f"{server}/{name}")
    whole = inputs["fetch-depth"] == "0"
    every = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"] if whole else []
    depth = [] if whole else [f"--depth={inputs['fetch-depth']}"]
    if inputs["filter"]:
        git("config", "remote.origin.promisor", "true")
        git("config", "remote.origin.partialclonefilter", inputs["filter"])
        depth.append(f"--filter={inputs['filter']}")
    found = git("ls-remote", "origin", f"refs/heads/{wanted}") if not wanted.startswith("refs/") else ""
    branch = wanted.removeprefix("refs/heads/") if wanted.startswith("refs/heads/") or found else ""
    source = f"+refs/heads/{branch}:refs/remotes/origin/{branch}" if branch and not commit else commit or wanted
    git("fetch", "--quiet", "--no-tags", "--force", *depth, "origin", *every, source)
    target = f"refs/remotes/origin/{branch}" if branch and not commit else "FETCH_HEAD"
    if branch and commit:
        git("update-ref", f"refs/remotes/origin/{branch}", commit)
        target = commit
    elif not branch:
        target = commit or git("rev-parse", _fetched(folder))
    git("checkout", "--quiet", "--force", *(["-B", branch, target] if branch else ["--detach", target]))
    if branch:
        git("branch", "--quiet", f"--set-upstream-to=origin/{branch}", branch)
    _output(ref=wanted, commit=git("rev-parse", "HEAD"))
    print(f"checked out {name} at {git('rev-parse', 'HEAD')} ({wanted})")
    return 0


def _fetched(folder: Path) -> str:
    """The commit that was asked for last: with whole history FETCH_HEAD lists the branches too."""
    lines = (folder / ".git" / "FETCH_HEAD").read_text().splitlines()
    named = [line for line in lines if "branch '" not in line and "tag '" not in line]
    return (named or lines)[-1].split()[0]


def upload_artifact(inputs: Inputs) -> int:
    """Keep regular files only: the real one follows links, and leaves hidden files out."""
    source = Path(inputs["path"].strip())
    name = inputs["name"] if inputs["archive"] == "true" else source.name  # a file as it is keeps its own name
    place = _artifacts(os.environ["GITHUB_RUN_ID"], name)
    hidden = inputs["include-hidden-files"] == "true"
    root = source if source.is_dir() else source.parent
    files = [path for path in (sorted(source.rglob("*")) if source.is_dir() else [source]) if path.is_file()]
    kept = [path for path in files if hidden or not any(part.startswith(".") for part in path.relative_to(root).parts)]
    if not kept:
        print(f"::warning::No files were found with the provided path: {source}. No artifacts will be uploaded.")
        return 1 if inputs["if-no-files-found"] == "error" else 0
    if place.exists() and inputs["overwrite"] != "true":
        print(f"::error::an artifact named {name} exists already in this run")
        return 1
    shutil.rmtree(place, ignore_errors=True)
    for path in kept:
        target = place / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    server, repository, run = (os.environ[f"GITHUB_{name}"] for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    _output(**{"artifact-id": "1", "artifact-url": f"{server}/{repository}/actions/runs/{run}/artifacts/1"})
    print(f"kept {len(kept)} files as {name}")
    return 0


def download_artifact(inputs: Inputs) -> int:
    """Bring the files of this run's artifact, or of another run's where a token is given."""
    own = os.environ["GITHUB_RUN_ID"]
    run = inputs["run-id"] or own
    if run != own and not inputs["github-token"]:
        print("::error::another run's artifact needs github-token")
        return 1
    target = Path(os.environ["GITHUB_WORKSPACE"], inputs["path"])
    named = [_artifacts(run, inputs["name"])] if inputs["name"] else sorted(_artifacts(run, "").glob(inputs["pattern"]))
    for place in named:
        if not place.is_dir():
            print(f"::error::Unable to download artifact(s): Artifact not found for name: {inputs['name']}")
            return 1
        merged = inputs["name"] or inputs["merge-multiple"] == "true"
        shutil.copytree(place, target if merged else target / place.name, symlinks=True, dirs_exist_ok=True)
        print(f"brought {place.name} of run {run}")
    _output(**{"download-path": str(target)})
    return 0


def setup_uv(inputs: Inputs) -> int:
    """Put uv on the PATH; its first `uv sync` begins with what was installed before."""
    programs = Path(os.environ["RUNNER_TEMP"], "programs")
    programs.mkdir(exist_ok=True)
    (programs / "uv").write_text(UV)
    (programs / "uv").chmod(0o755)
    _append("GITHUB_PATH", str(programs))
    _append("GITHUB_ENV", f"UV_PYTHON={sys.version_info.major}.{sys.version_info.minor}")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if inputs["python-version"] not in {"", here}:
        print(f"::notice::Python {here} stands for {inputs['python-version']} here")
    return 0


def setup_cml(inputs: Inputs) -> int:  # noqa: ARG001 - an action's shape
    """CML is what the PATH has, or it is not there; both are cases that the verbs must handle."""
    print(f"cml: {shutil.which('cml') or 'there is none here'}")
    return 0


def attest(inputs: Inputs) -> int:  # noqa: ARG001 - an action's shape
    """What the real one says where attestations are not to be had."""
    print("::error::Failed to persist attestation: Feature not available for this repository")
    return 1


def nothing(inputs: Inputs) -> int:  # noqa: ARG001 - an action's shape
    """There is nothing to do here: no cache to restore, no registry to log in to."""
    print(f"{sys.argv[1]}: nothing to do on this machine")
    return 0


def _artifacts(run: str, name: str) -> Path:
    return Path(os.environ["LOCAL_GITHUB_ARTIFACTS"], run, name)


def _output(**values: str) -> None:
    for name, value in values.items():
        _append("GITHUB_OUTPUT", f"{name}={value}")


def _append(variable: str, line: str) -> None:
    with Path(os.environ[variable]).open("a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")


_ACTIONS: Mapping[str, Callable[[Inputs], int]] = {
    "actions/checkout": checkout,
    "actions/upload-artifact": upload_artifact,
    "actions/download-artifact": download_artifact,
    "actions/attest": attest,
    "astral-sh/setup-uv": setup_uv,
    "iterative/setup-cml": setup_cml,
    "actions/cache": nothing,
    "docker/login-action": nothing,
}

if __name__ == "__main__":
    sys.exit(main())
