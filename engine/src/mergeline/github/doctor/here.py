"""Checks this machine and this clone for what blocks the loop on its first day."""

from __future__ import annotations

import json
import os
import queue
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mergeline.documents import Frozen
from mergeline.errors import ForgeError, MergelineError, StoreError
from mergeline.evaluate.results import Check, Status
from mergeline.github.base import BASE_BRANCH, REMOTE
from mergeline.github.git import Git
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, read_manifest
from mergeline.params import Params, read_params
from mergeline.store.config import configured_url


class Finding(Check):
    """A check with the command or the click that fixes it; `hint` is empty where there is nothing to do."""

    hint: str = ""


def passed(name: str, value: str, bound: str = "") -> Finding:
    """Nothing to do."""
    return Finding(name=name, status=Status.PASS, value=value, bound=bound, meaning="")


def failed(name: str, value: str, bound: str, meaning: str, hint: str) -> Finding:
    """Something does not work, or is not safe, until it is fixed."""
    return Finding(name=name, status=Status.FAIL, value=value, bound=bound, meaning=meaning, hint=hint)


def warned(name: str, value: str, bound: str, meaning: str, hint: str) -> Finding:
    """Something works worse than it could."""
    return Finding(name=name, status=Status.WARN, value=value, bound=bound, meaning=meaning, hint=hint)


def skipped(name: str, why: str, hint: str = "") -> Finding:
    """Something could not be looked at, or does not count here."""
    return Finding(name=name, status=Status.SKIP, value=why, bound="", meaning=why, hint=hint)


RULESET_FILE, OWNERS_FILE = Path(".github/rulesets/main.json"), Path(".github/CODEOWNERS")
OLDEST_GIT = (2, 38)
STORE_SECONDS = 15
"""How long the store may take to answer."""


class Unusable(Frozen):
    """A file that cannot be used, in the words of its error."""

    what: str
    hint: str


class StoreState(Frozen):
    """The default DVC remote: its address as it is written, and what came of looking at it."""

    url: str
    local: bool
    answers: bool
    writable: bool | None
    words: str = ""


class Here(Frozen):
    """What there is on this machine and in this clone; None where something is missing."""

    git: str | None
    remote: str | None
    base_branch: bool
    params: Params | Unusable
    manifest: Manifest | Unusable | None
    store: StoreState | Unusable
    public_key: bool
    workflows: tuple[str, ...]
    owners: str | None
    ruleset: dict[str, Any] | Unusable | None
    template: bool = False


def look_here(root: Path, home: Path | None = None) -> Here:
    """Look at the machine, at the clone at `root` and at the files of a home; nothing is written."""
    git, home = Git(root), home or root
    params = _try(read_params, home / "params.yaml")
    owners, version = root / OWNERS_FILE, _line(git, "version")
    return Here(
        git=version.removeprefix("git version ") if version else None,
        remote=_line(git, "remote", "get-url", REMOTE),
        base_branch=any(
            _line(git, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
            for name in (f"{REMOTE}/{BASE_BRANCH}", BASE_BRANCH)
        ),
        params=params,
        manifest=_try(read_manifest, home / MANIFEST_FILE) if (home / MANIFEST_FILE).exists() else None,
        store=_look_at_store(root),
        public_key=isinstance(params, Params) and (home / params.release.signing.public_key).is_file(),
        workflows=tuple(sorted(path.name for path in (root / ".github" / "workflows").glob("*.y*ml"))),
        owners=owners.read_text(encoding="utf-8", errors="replace") if owners.is_file() else None,
        ruleset=_ruleset(root / RULESET_FILE),
        template=(root / "copier.yml").is_file(),
    )


def _line(git: Git, *command: str) -> str | None:
    try:
        code, out, _ = git.attempt(*command)
    except ForgeError:
        return None
    return out if code == 0 else None


def _try(read: Any, path: Path) -> Any:
    """What `read` makes of a file, or why it is unusable."""
    try:
        return read(path)
    except MergelineError as error:
        return Unusable(what=f"{error.where}: {error.what}" if error.where else error.what, hint=error.hint)


def _ruleset(path: Path) -> dict[str, Any] | Unusable | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return Unusable(what=f"{path.name} is not JSON: {error}", hint=f"git checkout -- {RULESET_FILE}")
    if not isinstance(found, dict) or not isinstance(found.get("rules"), list):
        return Unusable(what=f"{path.name} has no list of rules", hint=f"git checkout -- {RULESET_FILE}")
    return found


def _look_at_store(root: Path) -> StoreState | Unusable:
    """What the default remote answers; a slow one is given up."""
    try:
        url = configured_url(root)
    except StoreError as error:
        return Unusable(what=error.what, hint=error.hint)
    if "://" not in url:
        place = Path(os.path.normpath(root / ".dvc" / url))
        writable = os.access(place, os.W_OK) if place.is_dir() else os.access(place.parent, os.W_OK)
        return StoreState(url=url, local=True, answers=place.is_dir(), writable=writable)
    answer: queue.SimpleQueue[str] = queue.SimpleQueue()
    # A daemon: a store that never answers must not keep the program from ending.
    threading.Thread(target=lambda: answer.put(_ask_store(url)), daemon=True).start()
    try:
        words = answer.get(timeout=STORE_SECONDS)
    except queue.Empty:
        words = f"no answer within {STORE_SECONDS} s"
    return StoreState(url=url, local=False, answers=not words, writable=None, words=words)


def _ask_store(url: str) -> str:
    """What is wrong with a store that is not on this machine; empty if it answers."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        bucket = path.split("/", maxsplit=1)[0]
        # An empty prefix of a bucket that is there is fine.
        there = system.exists(path) or (url.startswith("s3://") and system.exists(bucket))
    except Exception as error:  # noqa: BLE001 - each of fsspec's systems raises its own
        return f"{type(error).__name__}: {error}"[:300]
    return "" if there else "the place is not there"


def judge_here(here: Here) -> tuple[Finding, ...]:
    """One finding for each thing, whatever the others say."""
    return (_git(here.git), *_repository(here), *judge_documents(here), _store(here.store), *_github_files(here))


def _git(version: str | None) -> Finding:
    bound = f"{'.'.join(map(str, OLDEST_GIT))} or newer"
    found = re.match(r"(\d+)\.(\d+)", version or "")
    if version is None or not found:
        return failed("git", "missing", bound, "Nothing works without git.", "install git")
    if (int(found[1]), int(found[2])) < OLDEST_GIT:
        return failed("git", version, bound, "An older git cannot merge without a work tree.", "install a newer git")
    return passed("git", version, bound)


def _repository(here: Here) -> Iterator[Finding]:
    if here.remote is None:
        meaning = "There is no place for pull requests yet."
        hint = "git remote add origin <address>; a bare repository does: docs/github.md, Without GitHub"
        yield warned("remote", "none", "origin", meaning, hint)
    elif re.search(r"://[^/@]*:[^/@]+@", here.remote):
        yield failed(
            "remote",
            re.sub(r"://[^@]*@", "://***@", here.remote),
            "an address without a password",
            "The password lies readable in .git/config.",
            "git remote set-url origin <address without it>, and make the token invalid",
        )
    else:
        yield passed("remote", here.remote)
    if here.base_branch:
        yield passed("base branch", "main")
    else:
        hint = "git fetch origin main, or rename yours: git branch -m main"
        yield failed("base branch", "no main here", "main", "Releases are merges into main.", hint)


def judge_documents(here: Here) -> Iterator[Finding]:
    """What is found of the files of a home."""
    if here.template:
        meaning = "A copy of the template serves the template's model, and runs the engine's tests."
        hint = "make adopt NAME=orders; nothing to do in the template itself"
        yield warned("set up", "this is the template", "a repository of your own", meaning, hint)
    if isinstance(here.params, Unusable):
        yield failed("params.yaml", here.params.what, "valid", "No verb can run.", here.params.hint)
    else:
        yield passed("params.yaml", "valid")
    yield _manifest(here)
    if not is_signed(here):
        yield skipped("signing key", "release.signing.policy is off")
    elif isinstance(here.params, Params):
        key = here.params.release.signing.public_key
        meaning = "release.signing.policy is required, and nothing can be checked without the key."
        hint = f"mergeline keys ~/mergeline-keys, and commit signing.pub as {key}"
        yield (
            passed("signing key", key)
            if here.public_key
            else failed("signing key", f"{key} is missing", "the public key", meaning, hint)
        )


def is_signed(here: Here) -> bool:
    """Whether the params require signatures."""
    return isinstance(here.params, Params) and here.params.release.signing.policy == "required"


def _manifest(here: Here) -> Finding:
    found, params = here.manifest, here.params
    if found is None:
        hint = f"git checkout origin/main -- {MANIFEST_FILE}"
        return failed("manifest", "missing", "valid", "It says what production serves.", hint)
    if isinstance(found, Unusable):
        return failed("manifest", found.what, "valid", "No server will load it.", found.hint)
    if isinstance(params, Params) and found.metadata.name != params.name:
        meaning = "It is another model's, the template's own perhaps; the first proposal starts a new one."
        name = found.metadata.name
        return warned("manifest", f"of {name!r}", f"of {params.name!r}", meaning, "mergeline propose")
    stable = found.spec.stable
    return passed("manifest", f"serves version {stable.version}" if stable else "serves nothing yet")


def _store(store: StoreState | Unusable) -> Finding:
    bound = "reachable from every clone"
    if isinstance(store, Unusable):
        return failed("store", store.what, bound, "Models and data have no place.", store.hint)
    if store.local and (store.url.startswith(("/", "~")) or re.match(r"[A-Za-z]:", store.url)):
        meaning = "An absolute path is on this machine only: no job on GitHub can read it."
        hint = "dvc remote modify store url ../store, or an address such as s3://bucket/models"
        return failed("store", store.url, bound, meaning, hint)
    if not store.answers:
        hint = "dvc pull" if store.local else "check the address and the credentials: dvc remote list"
        return failed("store", f"{store.url}: {store.words or 'there is no such folder'}", bound, "", hint)
    if store.writable is False:
        return failed("store", f"{store.url} is read-only", "writable", "Nothing can be proposed.", "chmod u+w store")
    return passed("store", f"{store.url} answers{'' if store.local else '; to try writing: dvc push'}", bound)


def _github_files(here: Here) -> Iterator[Finding]:
    if not here.workflows:
        hint = "git checkout origin/main -- .github"
        yield failed("workflows", "none", "model.yml and others", "No pull request is judged.", hint)
    yield _owners(here.owners)
    hint = f"git checkout -- {RULESET_FILE}"
    if here.ruleset is None:
        yield failed("ruleset file", f"no {RULESET_FILE}", "valid", "There is nothing to import.", hint)
    elif isinstance(here.ruleset, Unusable):
        yield failed("ruleset file", here.ruleset.what, "valid", "GitHub will not import it.", here.ruleset.hint)
    else:
        yield passed("ruleset file", "valid")


def _owners(text: str | None) -> Finding:
    lines = [line.split("#")[0].split() for line in (text or "").splitlines()]
    owned = {line[0]: line[1:] for line in lines if line}
    bound = "/.github/ and /deploy/"
    missing = [
        place
        for place in ("/.github/", "/deploy/")
        if not any(owned.get(pattern) for pattern in (place, place.rstrip("/"), f"{place}**", "*"))
    ]
    if missing:
        meaning = "Anybody with write access may approve a change of what releases."
        hint = f"add a line to {OWNERS_FILE}: {missing[0]} @your-org/your-team"
        return failed("code owners", f"nobody owns {' and '.join(missing)}", bound, meaning, hint)
    owners = sorted({owner for owners in owned.values() for owner in owners})
    if any("@OWNER" in owner for owner in owners):
        meaning = "GitHub passes over a line whose owner it does not know."
        hint = f"put your team into {OWNERS_FILE} in place of @OWNER/maintainers"
        return warned("code owners", "still the template's", bound, meaning, hint)
    return passed("code owners", ", ".join(owners), bound)
