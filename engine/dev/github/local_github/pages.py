"""Writes the page of each pull request as a person sees it on GitHub, from what is in git and the API."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from local_github.bare import ChangedFile
from local_github.gfm import render
from local_github.github import LocalGitHub
from local_github.state import Run

_STYLE = Path(__file__).with_name("page.css")
_SIGNS = {"success": "✓", "failure": "✗", "cancelled": "✗", "skipped": "⊘", "neutral": "■", None: "●"}
_PATCH_LINES = 400


def write_pages(github: LocalGitHub, name: str, folder: Path) -> Path:
    """Write a page for every pull request, and one that lists them; the list's path."""
    folder.mkdir(parents=True, exist_ok=True)
    pulls = github.api.pages(f"/repos/{name}/pulls?state=all", token=github.hub.admin)
    pulls.sort(key=lambda pull: int(pull["number"]))
    for pull in pulls:
        page = _page(f"{pull['title']} · #{pull['number']}", _pull_body(github, name, pull))
        (folder / f"pull-{pull['number']}.html").write_text(page, encoding="utf-8")
    index = folder / "index.html"
    index.write_text(_page(f"Pull requests · {name}", _index_body(name, pulls, github.hub.runs)), encoding="utf-8")
    return index


def _pull_body(github: LocalGitHub, name: str, pull: Mapping[str, Any]) -> str:
    repository, head = github.hub.repositories[name], pull["head"]["sha"]
    base = repository.git.run("merge-base", pull["base"]["sha"], head)
    files, commits = repository.files(base, head), repository.commits(base, head)
    comments = github.comments(name, pull["number"])
    checks = sorted(github.checks(name, head).values(), key=lambda check: str(check["name"]))
    state = "merged" if pull["merged_at"] else pull["state"]
    source = pull["head"]["label"] if pull["head"]["repo"]["full_name"] != name else pull["head"]["ref"]
    count = f"{len(commits)} commit{'' if len(commits) == 1 else 's'}"
    verb = f"merged {count} into" if state == "merged" else f"wants to merge {count} into"
    labels = " ".join(f'<span class="label">{escape(label["name"])}</span>' for label in pull["labels"])
    added, removed = sum(file.additions for file in files), sum(file.deletions for file in files)
    return (
        f'<p><a href="index.html">{escape(name)}</a> / Pull requests</p>'
        f"<h1>{escape(pull['title'])} <span>#{pull['number']}</span></h1>"
        f'<p><span class="state {state}">{state.title()}</span><strong>{escape(pull["user"]["login"])}</strong> '
        f'<span class="quiet">{verb} <code>{escape(pull["base"]["ref"])}</code> from '
        f"<code>{escape(source)}</code></span> {labels}</p>"
        f'<nav class="bar"><a href="#conversation">Conversation {len(comments)}</a><a href="#checks">Checks '
        f'{len(checks)}</a><a href="#files">Files changed {len(files)}</a><span><span class="success">+{added}</span> '
        f'<span class="failure">−{removed}</span></span></nav><section id="conversation">'
        f"{_said(pull['user'], pull['created_at'], pull['body'] or '*No description provided.*')}"
        f"{''.join(_commit(github, name, commit) for commit in commits)}"
        f"{''.join(_said(comment['user'], comment['created_at'], comment['body']) for comment in comments)}"
        f"</section>{_checks(checks, head)}"
        f'<section id="files"><h2>Files changed</h2>{"".join(_file(file) for file in files)}</section>'
    )


def _said(user: Mapping[str, Any], when: str, text: str) -> str:
    bot = ' <span class="bot">bot</span>' if user["type"] == "Bot" else ""
    login = str(user["login"]).removesuffix("[bot]")
    return (
        f'<article class="box"><header><strong>{escape(login)}</strong>{bot} commented at {escape(when[11:16])}'
        f'</header><div class="body">{render(text)}</div></article>'
    )


def _commit(github: LocalGitHub, name: str, commit: str) -> str:
    git = github.hub.repositories[name].git
    author, subject = git.run("show", "-s", "--format=%an%x1f%s", commit).split("\x1f")
    mark = _SIGNS.get(_worst(github.checks(name, commit).values()), "")
    return f'<p class="event"><code>{mark} {commit[:7]}</code><strong>{escape(author)}</strong> {escape(subject)}</p>'


def _worst(checks: Any) -> str | None:
    found = {check["conclusion"] for check in checks}
    return next((word for word in ("failure", "cancelled", "success", "skipped") if word in found), None)


def _checks(checks: Sequence[Mapping[str, Any]], head: str) -> str:
    if not checks:
        return '<section id="checks"><h2>Checks</h2><p class="quiet">None ran on the newest commit.</p></section>'
    items = "".join(
        f'<li><span class="{check["conclusion"]}">{_SIGNS[check["conclusion"]]}</span> '
        f"<strong>{escape(check['name'])}</strong> "
        f'<span class="quiet">{escape(str(check["conclusion"]))} {escape(_title(check))}</span></li>'
        for check in checks
    )
    return (
        f'<section id="checks"><h2>Checks on {head[:7]}</h2><div class="box"><ul class="checks">{items}</ul></div>'
        "</section>"
    )


def _title(check: Mapping[str, Any]) -> str:
    title = (check.get("output") or {}).get("title")
    return f"— {title}" if title else ""


def _file(file: ChangedFile) -> str:
    numbers = f'<span class="success">+{file.additions}</span> <span class="failure">−{file.deletions}</span>'
    header = f"<header><strong>{escape(file.path)}</strong> {file.status} {numbers}</header>"
    if any(fnmatch.fnmatch(file.path, pattern) for pattern in ("store/*", "uv.lock", "dvc.lock")):
        folded = f"<details><summary>Generated; not shown by default</summary>{_patch(file)}</details>"
        return f'<article class="box">{header}<div class="body quiet">{folded}</div></article>'
    return f'<article class="box">{header}{_patch(file)}</article>'


def _patch(file: ChangedFile) -> str:
    if not file.patch:
        return '<div class="body quiet">Binary file not shown.</div>'
    kinds = {"+": "add", "-": "del", "@": "at"}
    lines = file.patch.splitlines()
    shown = "".join(
        f'<span class="{kinds.get(line[:1], "")}">{escape(line) or " "}</span>' for line in lines[:_PATCH_LINES]
    )
    more = f'<span class="at">… {len(lines) - _PATCH_LINES} more lines</span>' if len(lines) > _PATCH_LINES else ""
    return f'<pre class="diff">{shown}{more}</pre>'


def _index_body(name: str, pulls: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> str:
    rows = "".join(
        f'<li>{_state(pull)} <a href="pull-{pull["number"]}.html"><strong>{escape(pull["title"])}</strong></a> '
        f'<span class="quiet">#{pull["number"]} by {escape(pull["user"]["login"])}</span></li>'
        for pull in pulls
    )
    ran = "".join(
        f"<tr><td>{run.number}</td><td>{escape(run.workflow)}</td><td>{escape(run.event.name)}</td><td>"
        f'<span class="{run.conclusion}">{escape(run.conclusion)}</span></td><td>{run.seconds:.0f} s</td>'
        f"<td>{_jobs(run)}</td></tr>"
        for run in runs
    )
    return (
        f'<h1>{escape(name)}</h1><h2>Pull requests</h2><div class="box"><ul class="checks">{rows}</ul></div>'
        '<h2>Workflow runs</h2><div class="scroll"><table class="runs"><thead><tr><th>Run</th><th>Workflow</th>'
        f"<th>Event</th><th>Result</th><th>Took</th><th>Jobs</th></tr></thead><tbody>{ran}</tbody></table></div>"
    )


def _jobs(run: Run) -> str:
    ran = [job for job in run.jobs if job.conclusion != "skipped"]
    told = [f'<span class="{job.conclusion}">{_SIGNS[job.conclusion]} {escape(job.name)}</span>' for job in ran]
    skipped = len(run.jobs) - len(ran)
    return ", ".join([*told, *([f'<span class="skipped">{skipped} skipped</span>'] if skipped else [])])


def _state(pull: Mapping[str, Any]) -> str:
    state = "merged" if pull["merged_at"] else str(pull["state"])
    return f'<span class="state {state}">{state.title()}</span>'


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )
