"""Checks this machine and this clone for what blocks the loop on its first day, each with what fixes it."""

from __future__ import annotations

import functools
import json
import os
import queue
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from mergeline.errors import ForgeError, MergelineError
from mergeline.evaluate.results import Check, Status
from mergeline.github.actions import locate, read_job
from mergeline.github.base import BASE_BRANCH, REMOTE
from mergeline.github.git import Git
from mergeline.home import Home, find_homes
from mergeline.manifest.schema import MANIFEST_FILE, read_manifest
from mergeline.params import Params, read_params
from mergeline.store.config import configured_url

STORE_SECONDS = 15
"""How long the store may take to answer."""
RULESET_FILE, OWNERS_FILE = Path(".github/rulesets/main.json"), Path(".github/CODEOWNERS")
OLDEST_GIT = (2, 38)
_REVIEWED = ("/.github/", "/deploy/")
Read = TypeVar("Read")


class Finding(Check):
    """A check with the command or the click that fixes it; `hint` is empty where there is nothing to do."""

    hint: str = ""


def _found(status: Status, name: str, value: str, meaning: str = "", hint: str = "") -> Finding:
    return Finding(name=name, status=status, value=value, bound="", meaning=meaning, hint=hint)


passed, failed, warned = (functools.partial(_found, status) for status in (Status.PASS, Status.FAIL, Status.WARN))


def skipped(name: str, why: str, hint: str = "") -> Finding:
    """What could not be looked at, or does not count here."""
    return _found(Status.SKIP, name, why, why, hint)


def examine_clone(root: Path) -> Iterator[Finding]:
    """What is found on this machine and in this clone; nothing is written."""
    git = Git(root)
    yield _git(git)
    yield from _repository(git)
    if (root / "copier.yml").is_file():
        meaning = "A copy of the template serves the template's model, and runs the engine's tests."
        hint = "make adopt NAME=orders; nothing to do in the template itself"
        yield warned("set up", "this is the template", meaning, hint)
    for home in homes_of(root):
        for finding in _documents(home.folder):
            named = f"{home.model}: {finding.name}" if home.model else finding.name
            yield finding.model_copy(update={"name": named})
    yield _store(root)
    yield from _github_files(root)


def homes_of(root: Path) -> list[Home]:
    """The homes of the clone; the clone itself where there is none yet."""
    return list(find_homes(root).values()) or [Home(root)]


def said(git: Git, *command: str) -> str | None:
    """What a command of git says; None where it fails, or there is no git."""
    try:
        code, out, _ = git.attempt(*command)
    except ForgeError:
        return None
    return out if code == 0 else None


def _git(git: Git) -> Finding:
    version = said(git, "version")
    found = re.search(r"(\d+)\.(\d+)", version or "")
    if version is None or not found:
        return failed("git", "missing", "Nothing works without git.", "install git")
    if (int(found[1]), int(found[2])) < OLDEST_GIT:
        return failed("git", version, "An older git than 2.38 cannot merge without a work tree.", "install a newer git")
    return passed("git", version.removeprefix("git version "))


def _repository(git: Git) -> Iterator[Finding]:
    remote = said(git, "remote", "get-url", REMOTE)
    if remote is None:
        meaning = "There is no place for pull requests yet."
        hint = f"git remote add {REMOTE} <address>; a bare repository does: docs/github.md, Without GitHub"
        yield warned("remote", "none", meaning, hint)
    elif re.search(r"://[^/@]*:[^/@]+@", remote):
        shown, meaning = re.sub(r"://[^@]*@", "://***@", remote), "The password lies readable in .git/config."
        hint = f"git remote set-url {REMOTE} <address without it>, and make the token invalid"
        yield failed("remote", shown, meaning, hint)
    else:
        yield passed("remote", remote)
    names = (f"{REMOTE}/{BASE_BRANCH}", BASE_BRANCH)
    if any(said(git, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") for name in names):
        yield passed("base branch", BASE_BRANCH)
    else:
        hint = f"git fetch {REMOTE} main, or rename yours: git branch -m main"
        yield failed("base branch", "no main here", "Releases are merges into main.", hint)


def _documents(folder: Path) -> Iterator[Finding]:
    """What is found of the files of a home."""
    params = read(read_params, folder / "params.yaml")
    if isinstance(params, MergelineError):
        yield failed("params.yaml", _words(params), "No verb can run.", params.hint)
    else:
        yield passed("params.yaml", "valid")
    yield _manifest(folder, params)
    if not is_signed(params):
        yield skipped("signing key", "release.signing.policy is off")
    elif (folder / params.release.signing.public_key).is_file():
        yield passed("signing key", str(params.release.signing.public_key))
    else:
        key, meaning = params.release.signing.public_key, "Signatures are required, and none can be checked without it."
        hint = f"mergeline keys ~/mergeline-keys, and commit signing.pub as {key}"
        yield failed("signing key", f"{key} is missing", meaning, hint)


def read(read: Callable[[Path], Read], path: Path) -> Read | MergelineError:
    """What `read` makes of a file, or why it cannot be used."""
    try:
        return read(path)
    except MergelineError as error:
        return error


def _words(error: MergelineError) -> str:
    return f"{error.where}: {error.what}" if error.where else error.what


def is_signed(params: Params | MergelineError) -> TypeGuard[Params]:
    """Whether the params require signatures."""
    return isinstance(params, Params) and params.release.signing.policy == "required"


def _manifest(folder: Path, params: Params | MergelineError) -> Finding:
    if not (folder / MANIFEST_FILE).exists():
        hint = f"git checkout origin/main -- {MANIFEST_FILE}"
        return failed("manifest", "missing", "It says what production serves.", hint)
    found = read(read_manifest, folder / MANIFEST_FILE)
    if isinstance(found, MergelineError):
        return failed("manifest", _words(found), "No server will load it.", found.hint)
    if isinstance(params, Params) and found.metadata.name != params.name:
        meaning = "It is another model's, the template's own perhaps; the first proposal starts a new one."
        return warned("manifest", f"of {found.metadata.name!r}", meaning, "mergeline propose")
    stable = found.spec.stable
    return passed("manifest", f"serves version {stable.version}" if stable else "serves nothing yet")


def _store(root: Path) -> Finding:
    url = read(configured_url, root)
    if isinstance(url, MergelineError):
        return failed("store", url.what, "Models and data have no place.", url.hint)
    if "://" not in url:
        return _folder(root, url)
    words = _asked_of_store(url)
    if words:
        hint = "check the address and the credentials: dvc remote list"
        return failed("store", f"{url}: {words}", "Models and data cannot be fetched.", hint)
    return passed("store", f"{url} answers; to try writing: dvc push")


def _folder(root: Path, url: str) -> Finding:
    """What is found of a store that is a folder."""
    remote = said(Git(root), "remote", "get-url", REMOTE) or ""
    if locate(remote, read_job()) and (url.startswith(("/", "~")) or re.match(r"[A-Za-z]:", url)):
        meaning = "An absolute path is on this machine only: no job on GitHub can read it."
        hint = "dvc remote modify store url ../store, or an address such as s3://bucket/models"
        return failed("store", url, meaning, hint)
    place = Path(os.path.normpath(root / ".dvc" / Path(url).expanduser()))
    if not place.is_dir():
        return failed("store", f"{url}: there is no such folder", "Models and data cannot be fetched.", "dvc pull")
    if not os.access(place, os.W_OK):
        return failed("store", f"{url} is read-only", "Nothing can be proposed.", f"chmod u+w {place}")
    return passed("store", f"{url} answers")


def _asked_of_store(url: str) -> str:
    """What is wrong with a store that is not on this machine; empty if it answers. A slow one is given up."""
    answer: queue.SimpleQueue[str] = queue.SimpleQueue()
    # A daemon: a store that never answers must not keep the program from ending.
    threading.Thread(target=lambda: answer.put(_ask_store(url)), daemon=True).start()
    try:
        return answer.get(timeout=STORE_SECONDS)
    except queue.Empty:
        return f"no answer within {STORE_SECONDS} s"


def _ask_store(url: str) -> str:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        bucket = path.split("/", maxsplit=1)[0]
        # An empty prefix of a bucket that is there is fine.
        there = system.exists(path) or (url.startswith("s3://") and system.exists(bucket))
    except Exception as error:  # noqa: BLE001 - each of fsspec's systems raises its own
        return f"{type(error).__name__}: {error}"[:300]
    return "" if there else "the place is not there"


def _github_files(root: Path) -> Iterator[Finding]:
    if not list((root / ".github" / "workflows").glob("*.y*ml")):
        yield failed("workflows", "none", "No pull request is judged.", "git checkout origin/main -- .github")
    yield _owners(root / OWNERS_FILE)
    try:
        ruleset_of(root)
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = "is missing" if isinstance(error, OSError) else f"is no ruleset: {error}"
        hint = f"git checkout origin/main -- {RULESET_FILE}"
        yield failed("ruleset file", f"{RULESET_FILE} {what}", "There is nothing that GitHub could import.", hint)
    else:
        yield passed("ruleset file", "valid")


def ruleset_of(root: Path) -> dict[str, Any]:
    """The ruleset that the clone asks for.

    Raises:
        OSError, ValueError, KeyError, TypeError: it has none, or that has no rules.
    """
    found: dict[str, Any] = json.loads((root / RULESET_FILE).read_text(encoding="utf-8"))
    return {"name": found.get("name"), "rules": [{**rule, "type": rule["type"]} for rule in found["rules"]]}


def _owners(path: Path) -> Finding:
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    owned = {line[0]: line[1:] for line in lines if line}
    patterns = {place: (place, place.rstrip("/"), f"{place}**", "*") for place in _REVIEWED}
    missing = [place for place, those in patterns.items() if not any(owned.get(pattern) for pattern in those)]
    if missing:
        meaning = "Anybody with write access may approve a change of what releases."
        hint = f"add a line to {OWNERS_FILE}: {missing[0]} @your-org/your-team"
        return failed("code owners", f"nobody owns {' and '.join(missing)}", meaning, hint)
    owners = sorted({owner for owners in owned.values() for owner in owners})
    if any("@OWNER" in owner for owner in owners):
        meaning = "GitHub passes over a line whose owner it does not know."
        hint = f"put your team into {OWNERS_FILE} in place of @OWNER/maintainers"
        return warned("code owners", "still the template's", meaning, hint)
    return passed("code owners", ", ".join(owners))
