"""Looks at this machine and this clone."""

from __future__ import annotations

import json
import os
import platform
import queue
import re
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mergeline.documents import Frozen
from mergeline.errors import ForgeError, MergelineError, StoreError
from mergeline.github.base import BASE_BRANCH, REMOTE
from mergeline.github.git import Git
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, read_manifest
from mergeline.params import Params, read_params
from mergeline.store.config import configured_url

RULESET_FILE, OWNERS_FILE = Path(".github/rulesets/main.json"), Path(".github/CODEOWNERS")
STORE_SECONDS = 15
"""How long the store may take to answer."""


class Trouble(Frozen):
    """A file that cannot be used, in the words of its error."""

    what: str
    hint: str


class Use(Frozen):
    """One `uses:` of a workflow or a composite action."""

    file: str
    line: int
    action: str


class StoreSeen(Frozen):
    """The default DVC remote: its address as it is written, and what came of looking at it."""

    url: str
    local: bool
    answers: bool
    writable: bool | None
    words: str = ""


class Here(Frozen):
    """What there is on this machine and in this clone; None where something is missing."""

    git: str | None
    python: str
    uv: str | None
    cml: str | None
    remote: str | None
    base_branch: bool
    params: Params | Trouble
    manifest: Manifest | Trouble | None
    store: StoreSeen | Trouble
    public_key: bool
    uses: tuple[Use, ...]
    workflows: tuple[str, ...]
    scheduled: tuple[str, ...]
    queued: bool
    owners: str | None
    ruleset: dict[str, Any] | Trouble | None
    newest_commit: datetime | None


def look_here(root: Path) -> Here:
    """Look at the machine and at the clone at `root`; nothing is written."""
    git = Git(root)
    params = _try(read_params, root / "params.yaml")
    workflows = tuple(sorted((root / ".github" / "workflows").glob("*.y*ml")))
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in workflows}
    owners = root / OWNERS_FILE
    uv = root / ".tools" / "bin" / "uv"
    return Here(
        git=_git_version(git),
        python=platform.python_version(),
        uv=shutil.which("uv") or (str(uv) if uv.exists() else None),
        cml=shutil.which("cml"),
        remote=_line(git, "remote", "get-url", REMOTE),
        base_branch=_newest_commit(git) is not None,
        params=params,
        manifest=_try(read_manifest, root / MANIFEST_FILE) if (root / MANIFEST_FILE).exists() else None,
        store=_look_at_store(root),
        public_key=isinstance(params, Params) and (root / params.release.signing.public_key).is_file(),
        uses=tuple(_uses(root)),
        workflows=tuple(path.name for path in workflows),
        scheduled=tuple(path.name for path, text in texts.items() if re.search(r"^\s+schedule:", text, re.MULTILINE)),
        queued=any(re.search(r"^\s+merge_group:", text, re.MULTILINE) for text in texts.values()),
        owners=owners.read_text(encoding="utf-8", errors="replace") if owners.is_file() else None,
        ruleset=_ruleset(root / RULESET_FILE),
        newest_commit=_newest_commit(git),
    )


def _git_version(git: Git) -> str | None:
    try:
        return git.run("version").removeprefix("git version ")
    except ForgeError:
        return None


def _line(git: Git, *command: str) -> str | None:
    try:
        code, out, _ = git.attempt(*command)
    except ForgeError:
        return None
    return out if code == 0 else None


def _newest_commit(git: Git) -> datetime | None:
    for name in (f"{REMOTE}/{BASE_BRANCH}", BASE_BRANCH):
        seconds = _line(git, "log", "-1", "--format=%ct", name)
        if seconds:
            return datetime.fromtimestamp(int(seconds), UTC)
    return None


def _try(read: Any, path: Path) -> Any:
    """What `read` makes of a file, or its trouble."""
    try:
        return read(path)
    except MergelineError as error:
        return Trouble(what=f"{error.where}: {error.what}" if error.where else error.what, hint=error.hint)


def _ruleset(path: Path) -> dict[str, Any] | Trouble | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return Trouble(what=f"{path.name} is not JSON: {error}", hint=f"git checkout -- {RULESET_FILE}")
    if not isinstance(found, dict) or not isinstance(found.get("rules"), list):
        return Trouble(what=f"{path.name} has no list of rules", hint=f"git checkout -- {RULESET_FILE}")
    return found


def _uses(root: Path) -> Iterator[Use]:
    places = [*(root / ".github").glob("workflows/*.y*ml"), *(root / ".github").glob("actions/**/action.y*ml")]
    for path in sorted(places):
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            found = re.match(r"\s*(?:-\s+)?uses:\s*[\"']?([^\s\"'#]+)", line)
            if found:
                yield Use(file=path.relative_to(root).as_posix(), line=number, action=found[1])


def _look_at_store(root: Path) -> StoreSeen | Trouble:
    """What the default remote answers; a slow one is given up."""
    try:
        url = configured_url(root)
    except StoreError as error:
        return Trouble(what=error.what, hint=error.hint)
    if "://" not in url:
        place = Path(os.path.normpath(root / ".dvc" / url))
        writable = os.access(place, os.W_OK) if place.is_dir() else os.access(place.parent, os.W_OK)
        return StoreSeen(url=url, local=True, answers=place.is_dir(), writable=writable)
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    # A daemon: a store that never answers must not keep the program from ending.
    threading.Thread(target=lambda: told.put(_ask_store(url)), daemon=True).start()
    try:
        words = told.get(timeout=STORE_SECONDS)
    except queue.Empty:
        words = f"no answer within {STORE_SECONDS} s"
    return StoreSeen(url=url, local=False, answers=not words, writable=None, words=words)


def _ask_store(url: str) -> str:
    """What is wrong with a store that is not on this machine; empty if it answers."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        if system.exists(path):
            return ""
        return "the place is not there" if not url.startswith("s3://") else _bucket(system, path)
    except Exception as error:  # noqa: BLE001 - each of fsspec's systems raises its own
        return f"{type(error).__name__}: {error}"[:300]


def _bucket(system: Any, path: str) -> str:
    """An empty prefix of a bucket that is there is fine."""
    bucket = path.split("/", maxsplit=1)[0]
    return "" if system.exists(bucket) else f"there is no bucket {bucket}"
