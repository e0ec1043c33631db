"""Runs the workflows that events start, with act, and shows their jobs as checks: the Actions of the local GitHub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from local_github.actions import make_stand_ins, used_actions
from local_github.bare import NOTHING
from local_github.github import LocalGitHub
from local_github.inline import InvalidWorkflowError
from local_github.payloads import run_event
from local_github.permissions import is_shown, prepare
from local_github.processes import KEEPER
from local_github.state import Event, JobResult, Run
from local_github.tools import find_uv
from local_github.triggers import starts
from local_github.warm import OFFLINE

RUN_SECONDS = 900
_DEFAULT = {
    "read": {"contents": "read", "packages": "read"},
    "write": dict.fromkeys(("actions", "checks", "contents", "issues", "packages", "pull-requests"), "write"),
}
# What a job inherits of this machine. The environment that this runs in is no part of it: jobs install their own.
_INHERITED = ("LANG", "LC_ALL", "TMPDIR", "PIP_CERT", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "PYENV_ROOT",
              "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "UV_OFFLINE", "UV_FIND_LINKS")  # fmt: skip


class Actions:
    """Runs what the hub's events start, one run after another.

    Args:
        github: the local GitHub.
        environment: variables that every job gets, over those of this machine.
        told: is called with each run that is over.
    """

    def __init__(
        self,
        github: LocalGitHub,
        environment: Mapping[str, str] | None = None,
        told: Callable[[Run], None] = lambda run: None,  # noqa: ARG005 - nobody listens
        venv: Path | None = None,
    ) -> None:
        self.github, self._extra, self._told = github, dict(environment or {}), told
        self._venv = venv
        self.folder = github.folder / "actions"
        self.artifacts = self.folder / "artifacts"
        self.home = self.folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self._uv = find_uv()
        self._offline = venv is not None and (venv.parent / OFFLINE).exists()

    def settle(self) -> list[Run]:
        """Run everything that happened, and all that follows from it; the runs, in order."""
        hub, done = self.github.hub, []
        while hub.events:
            with hub.lock:
                event = hub.events.pop(0)
            if not hub.settings[event.repository].actions_enabled:
                continue
            for file, workflow in self._started(event):
                run = self._run(event, file, workflow)
                done.append(run)
                self._told(run)
                if event.name != "workflow_run":
                    hub.events.append(run_event(hub, run))
        if hub.errors:
            raise AssertionError("\n".join(hub.errors))
        return done

    def _started(self, event: Event) -> Iterable[tuple[str, Mapping[Any, Any]]]:
        repository = self.github.hub.repositories[event.repository]
        names = repository.git.run("ls-tree", "--name-only", event.commit, ".github/workflows/").splitlines()
        changed = _changed(event, repository.files)
        for name in sorted(names):
            if not name.endswith((".yml", ".yaml")):
                continue
            workflow = yaml.safe_load(repository.git.show(event.commit, name) or "")
            dispatched = event.name != "workflow_dispatch" or name == event.payload["workflow"]
            if dispatched and starts(workflow, event, changed):
                yield Path(name).name, workflow

    def _run(self, event: Event, file: str, workflow: Mapping[Any, Any]) -> Run:
        hub = self.github.hub
        run = Run(len(hub.runs) + 1, str(workflow.get("name", file)), file, event)
        hub.runs.append(run)
        place = self.folder / f"run-{run.number}"
        begun = time.monotonic()
        try:
            checkout = self._checkout(event, place)
            settings = hub.settings[event.repository]
            prepared = prepare(
                checkout / ".github" / "workflows",
                file,
                _DEFAULT[settings.default_token],
                lambda permissions: self.github.job_token(event.repository, permissions),
                fork=event.fork,
            )
            log = self._act(run, place, checkout, prepared.file)
            run.jobs, run.summary, run.log = read_log(log, prepared.jobs)
        except InvalidWorkflowError as error:
            run.conclusion, run.log = "startup_failure", str(error)
        else:
            ended = {job.conclusion for job in run.jobs} | {run.conclusion}
            run.conclusion = next((word for word in ("failure", "cancelled") if word in ended), "success")
        run.seconds = time.monotonic() - begun
        self._show(run)
        shutil.rmtree(place / "jobs", ignore_errors=True)
        return run

    def _checkout(self, event: Event, place: Path) -> Path:
        """A clone at the event's commit: where act finds the workflow files, and nothing that a job sees."""
        source, folder = self.github.hub.repositories[event.repository].folder, place / "checkout"
        folder.mkdir(parents=True)

        def git(*arguments: str) -> None:
            subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)

        git("init", "--quiet", "--initial-branch=main")
        (folder / ".git" / "objects" / "info" / "alternates").write_text(f"{source / 'objects'}\n")
        git("update-ref", "--no-deref", "HEAD", event.commit)
        git("checkout", "--quiet", "HEAD", "--", ".github")
        git("remote", "add", "origin", f"{self.github.url}/{event.repository}")
        return folder

    def _act(self, run: Run, place: Path, checkout: Path, file: str) -> str:
        event, github = run.event, self.github
        payload, secrets, variables = (place / name for name in ("event.json", "secrets.env", "variables.env"))
        payload.write_text(json.dumps(event.payload))
        settings = github.hub.settings[event.repository]
        # The run's own token has no permission: jobs have theirs in the copy of the workflow.
        plain = {"GITHUB_TOKEN": github.job_token(event.repository, {})}
        secrets.touch(mode=0o600)
        secrets.write_text(_lines(plain if event.fork else {**settings.secrets, **plain}))
        variables.write_text(_lines(settings.variables))
        stand_ins = make_stand_ins(used_actions(checkout), self.folder / "stand-ins")
        command = [
            sys.executable, "-SE", str(KEEPER), str(github.tools.act), event.name, "--json",
            "--directory", str(checkout), "--workflows", f".github/workflows/{file}",
            "--eventpath", str(payload), "--actor", event.actor, "--defaultbranch", "main",
            "--github-instance", github.url.removeprefix("https://"), "--platform", "ubuntu-latest=-self-hosted",
            "--no-skip-checkout", "--no-cache-server", "--action-offline-mode", "--action-cache-path",
            str(place / "jobs"), "--secret-file", str(secrets), "--var-file", str(variables),
            "--env-file", "", "--input-file", "", "--env", f"GITHUB_RUN_ID={run.number}", "--env",
            f"GITHUB_RUN_NUMBER={run.number}", *stand_ins,
        ]  # fmt: skip
        out = place / "act.jsonl"
        with out.open("wb") as words, (place / "act.err").open("wb") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=words,
                stderr=errors,
                env=self._environment(run),
                cwd=place,
                start_new_session=True,
            )
            try:
                process.wait(timeout=RUN_SECONDS)
            except subprocess.TimeoutExpired:
                run.conclusion = "cancelled"
            finally:
                if process.stdin:
                    process.stdin.close()
                process.wait()
        return out.read_text(encoding="utf-8") + (place / "act.err").read_text(encoding="utf-8")

    def _environment(self, run: Run) -> dict[str, str]:
        here = str(Path(sys.prefix) / "bin")
        path = [part for part in os.environ["PATH"].split(os.pathsep) if part != here]
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {
            **kept,
            "PATH": os.pathsep.join(path),
            "HOME": str(self.home),
            "UV_CACHE_DIR": _uv_cache(self._uv),
            "GIT_CONFIG_GLOBAL": str(self.home / "gitconfig"),
            "GIT_TERMINAL_PROMPT": "0",
            "DVC_SITE_CACHE_DIR": str(self.folder / "dvc"),
            "LOCAL_GITHUB_PYTHON": sys.executable,
            "LOCAL_GITHUB_UV": str(self._uv or "uv"),
            "LOCAL_GITHUB_VENV": str(self._venv or ""),
            "LOCAL_GITHUB_ARTIFACTS": str(self.artifacts),
            "LOCAL_GITHUB_SHA": run.event.commit,
            "LOCAL_GITHUB_REF": run.event.ref,
            "GIT_PAGER": "cat",
            **({"UV_OFFLINE": "1"} if self._offline else {}),
            **self.github.environment(),
            **self._extra,
        }

    def _show(self, run: Run) -> None:
        """Put the jobs on the commit as checks, each under its name."""
        event = run.event
        token = self.github.job_token(event.repository, {"checks": "write"})
        for job in run.jobs:
            body = {"name": job.name, "head_sha": event.head, "status": "completed", "conclusion": job.conclusion,
                    "external_id": f"run-{run.number}", "output": {"title": run.workflow, "summary": ""}}  # fmt: skip
            self.github.api.must("POST", f"/repos/{event.repository}/check-runs", body, token=token)


def read_log(text: str, jobs: Mapping[str, str]) -> tuple[list[JobResult], str, str]:
    """What act's log says: how the jobs ended, the step summaries, and the words of the steps.

    Args:
        text: the lines of `act --json`.
        jobs: the names that act gives the jobs, each with the one that GitHub shows; a job that act never names was
            skipped.
    """
    ended: dict[str, JobResult] = {}
    spent: dict[str, float] = {}
    summaries, words = [], []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            words.append(line)
            continue
        name = jobs.get(str(entry.get("job", "")).strip(), str(entry.get("job", "")).strip())
        if len(entry.get("stepID", ())) == 1:  # the steps of an action are part of the step that uses it
            spent[name] = spent.get(name, 0.0) + entry.get("executionTime", 0) / 1e9
        if entry.get("command") == "summary":
            summaries.append(entry["content"])
        elif "jobResult" in entry:
            ended[name] = JobResult(name, entry["jobResult"], round(spent.get(name, 0.0), 1))
        message = str(entry.get("msg", "")).rstrip("\n")
        if message.startswith("LocalRepositoryCache"):
            continue
        words.append(f"[{name}] {message}" if name else message)
    skipped = [JobResult(name, "skipped", 0.0) for name in jobs.values() if name not in ended]
    shown = [job for job in [*ended.values(), *skipped] if is_shown(job.name)]
    return shown, "\n".join(summaries), "\n".join(words)


def _changed(event: Event, files: Callable[[str, str], Iterable[Any]]) -> list[str]:
    pull, before = event.payload.get("pull_request"), event.payload.get("before")
    if pull:
        return [file.path for file in files(pull["base"]["sha"], event.head)]
    if event.name == "push" and before and before != NOTHING:
        return [file.path for file in files(str(before), event.head)]
    return []


def _lines(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={json.dumps(value)}\n" for name, value in values.items())


def _uv_cache(uv: str | None) -> str:
    if uv is None:
        return ""
    return subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
