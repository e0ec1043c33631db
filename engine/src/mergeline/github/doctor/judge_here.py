"""Judges what was seen on this machine and in this clone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mergeline.github.doctor.finding import Finding, failed, passed, skipped, warned
from mergeline.github.doctor.here import OWNERS_FILE, RULESET_FILE, Here, StoreSeen, Trouble
from mergeline.manifest.schema import MANIFEST_FILE, Manifest
from mergeline.params import Params

OLDEST_GIT = (2, 38)
_LOCAL = ("./", "../")
_COMMIT, _DIGEST = re.compile(r"@[0-9a-f]{40}$"), re.compile(r"@sha256:[0-9a-f]{64}$")


def judge_here(here: Here) -> tuple[Finding, ...]:
    """One finding for each thing, whatever the others say."""
    return tuple(_tools(here)) + tuple(_repository(here)) + tuple(_documents(here)) + tuple(_github_files(here))


def _tools(here: Here) -> Iterator[Finding]:
    bound = f"{'.'.join(map(str, OLDEST_GIT))} or newer"
    found = re.match(r"(\d+)\.(\d+)", here.git or "")
    if here.git is None or not found:
        yield failed("git", "missing", bound, "Nothing works without git.", "install git")
    elif (int(found[1]), int(found[2])) < OLDEST_GIT:
        yield failed("git", here.git, bound, "An older git cannot merge without a work tree.", "install a newer git")
    else:
        yield passed("git", here.git, bound)
    yield passed("python", here.python)
    if here.uv:
        yield passed("uv", here.uv)
    else:
        yield warned("uv", "missing", "on the PATH or in .tools", "The lock is installed with uv.", "make install")
    if here.cml:
        yield passed("cml", here.cml)
    else:
        yield skipped("cml", "not installed; the API posts the same comment", "npm install -g @dvcorg/cml@0.20.6")


def _repository(here: Here) -> Iterator[Finding]:
    if here.remote is None:
        yield warned(
            "remote", "none", "origin", "There is no place for pull requests yet.", "git remote add origin <address>"
        )
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
        yield failed(
            "base branch",
            "no main here",
            "main",
            "Releases are merges into main.",
            "git fetch origin main, or rename yours: git branch -m main",
        )


def _documents(here: Here) -> Iterator[Finding]:
    if isinstance(here.params, Trouble):
        yield failed("params.yaml", here.params.what, "valid", "No verb can run.", here.params.hint)
    else:
        yield passed("params.yaml", "valid")
    yield _manifest(here)
    yield _store(here.store)
    if isinstance(here.params, Params) and here.params.release.signing.policy == "required":
        key = here.params.release.signing.public_key
        yield (
            passed("signing key", key)
            if here.public_key
            else failed(
                "signing key",
                f"{key} is missing",
                "the public key",
                "release.signing.policy is required, and nothing can be checked without the key.",
                "mergeline keys ~/mergeline-keys, and commit signing.pub as " + key,
            )
        )
    else:
        yield skipped("signing key", "release.signing.policy is off")


def _manifest(here: Here) -> Finding:
    found, params = here.manifest, here.params
    if found is None:
        return failed(
            "manifest",
            "missing",
            "valid",
            "It says what production serves.",
            f"git checkout origin/main -- {MANIFEST_FILE}",
        )
    if isinstance(found, Trouble):
        return failed("manifest", found.what, "valid", "No server will load it.", found.hint)
    if isinstance(params, Params) and found.metadata.name != params.name:
        return warned(
            "manifest",
            f"of {found.metadata.name!r}",
            f"of {params.name!r}",
            "It is another model's, the template's own perhaps; the first proposal starts a new one.",
            "mergeline propose",
        )
    return passed("manifest", _served(found))


def _served(manifest: Manifest) -> str:
    stable = manifest.spec.stable
    return f"serves version {stable.version}" if stable else "serves nothing yet"


def _store(store: StoreSeen | Trouble) -> Finding:
    bound = "reachable from every clone"
    if isinstance(store, Trouble):
        return failed("store", store.what, bound, "Models and data have no place.", store.hint)
    if store.local and (store.url.startswith(("/", "~")) or re.match(r"[A-Za-z]:", store.url)):
        return failed(
            "store",
            store.url,
            bound,
            "An absolute path is on this machine only: no job on GitHub can read it.",
            "dvc remote modify store url ../store, or an address such as s3://bucket/models",
        )
    if not store.answers:
        where = "dvc pull" if store.local else "check the address and the credentials: dvc remote list"
        return failed("store", f"{store.url}: {store.words or 'there is no such folder'}", bound, "", where)
    if store.writable is False:
        return failed("store", f"{store.url} is read-only", "writable", "Nothing can be proposed.", "chmod u+w store")
    if store.url.startswith(("http://", "https://")):
        return warned("store", store.url, "writable", "DVC may not write over HTTP here.", "try it: dvc push")
    return passed("store", f"{store.url} answers{'' if store.local else '; writing is tried by: dvc push'}", bound)


def _github_files(here: Here) -> Iterator[Finding]:
    if not here.workflows:
        yield failed(
            "workflows",
            "none",
            "model.yml and others",
            "No pull request is judged.",
            "git checkout origin/main -- .github",
        )
    loose = [use for use in here.uses if not _pinned(use.action)]
    if loose:
        places = ", ".join(f"{use.file}:{use.line} {use.action}" for use in loose[:5])
        yield failed(
            "pinned actions",
            places,
            "a commit of 40 digits",
            "A tag can be moved to other code.",
            "write the commit and the tag: uses: owner/name@<40 digits> # v1.2.3",
        )
    elif here.uses:
        yield passed("pinned actions", f"{len(here.uses)} uses", "a commit of 40 digits")
    if here.owners is None:
        yield failed(
            "code owners",
            f"no {OWNERS_FILE}",
            "/.github/ and /deploy/",
            "Anybody with write access may approve a change of the workflows.",
            f"write {OWNERS_FILE}",
        )
    else:
        yield _owners(here.owners)
    if here.ruleset is None:
        yield failed(
            "ruleset file",
            f"no {RULESET_FILE}",
            "valid",
            "There is nothing to import.",
            f"git checkout -- {RULESET_FILE}",
        )
    elif isinstance(here.ruleset, Trouble):
        yield failed("ruleset file", here.ruleset.what, "valid", "GitHub will not import it.", here.ruleset.hint)
    else:
        yield passed("ruleset file", "valid")


def _owners(text: str) -> Finding:
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    owned = {line[0]: line[1:] for line in lines if line}
    bound = "/.github/ and /deploy/"
    missing = [
        place
        for place in ("/.github/", "/deploy/")
        if not any(owned.get(pattern) for pattern in (place, place.rstrip("/"), f"{place}**", "*"))
    ]
    if missing:
        return failed(
            "code owners",
            f"nobody owns {' and '.join(missing)}",
            bound,
            "Anybody with write access may approve a change of what releases.",
            f"add a line to {OWNERS_FILE}: {missing[0]} @your-org/your-team",
        )
    if any("@OWNER" in owner for owners in owned.values() for owner in owners):
        return warned(
            "code owners",
            "still the template's",
            bound,
            "GitHub passes over a line whose owner it does not know.",
            f"put your team into {OWNERS_FILE} in place of @OWNER/maintainers",
        )
    return passed("code owners", ", ".join(sorted({owner for owners in owned.values() for owner in owners})), bound)


def _pinned(action: str) -> bool:
    if action.startswith("docker://"):
        return bool(_DIGEST.search(action))
    return action.startswith(_LOCAL) or bool(_COMMIT.search(action))
