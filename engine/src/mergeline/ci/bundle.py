"""The bundle in which a proposal travels from the job that makes it to the job that may commit it.

A repository of several models has a bundle for each, in a folder of its model's name.

proposal.json
report.md report.html model-card.md verdict.json       where a model was judged
evidence.md                                            where fresh rows of production were added: why
dvc.lock objects/files/md5/…                           where the branch needs another lock, and what the store lacks

It was written by a branch's own code, so its reader trusts nothing in it. How applying it ended is written next to
the folder, never into it: that is the word of the job that applied it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mergeline.documents import Frozen, parse_json
from mergeline.errors import BundleError, DocumentError, MergelineError
from mergeline.files import write_bytes, write_json
from mergeline.github.own_branch import RUN_AGAIN
from mergeline.manifest.schema import DataDigest, Digest, Number
from mergeline.release.proposal import ProposalStatus
from mergeline.store.objects import MAX_BYTES, Read

PROPOSAL_FILE = "proposal.json"
REPORT, PAGE, CARD, VERDICT = "report.md", "report.html", "model-card.md", "verdict.json"
EVIDENCE = "evidence.md"
LOCK = "dvc.lock"

MEBIBYTE = 2**20
MAX_MODELS = 100
MAX_FILES = 2000  # a proposal of the template holds about 30; a model that is a folder of many files still fits
_LIMITS = {
    PROPOSAL_FILE: 64 * 1024,  # a few short texts
    REPORT: 256 * 1024,  # a comment's 60,000 characters, in any script
    PAGE: 16 * MEBIBYTE,  # the charts are drawn in it; 50 kB is usual
    CARD: 256 * 1024,
    EVIDENCE: 64 * 1024,  # a pull request's first words
    VERDICT: 4 * MEBIBYTE,  # some lines for each slice
    LOCK: 4 * MEBIBYTE,
}
_OBJECT = re.compile(r"objects/(files/md5/[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?)")
_FOLDER = re.compile(r"objects(/files(/md5(/[0-9a-f]{2})?)?)?")

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Line = Annotated[str, Field(max_length=4000)]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@-]{1,80}$")]


class ErrorInfo(Frozen):
    """An error as it travels: what was wrong, where, and how to fix it."""

    what: Line
    where: Line = ""
    hint: Line = ""

    @classmethod
    def of(cls, error: Exception) -> ErrorInfo:
        """The error, each part cut to what fits; the traceback of one that is not ours is for the log."""
        if not isinstance(error, MergelineError):
            return cls(what=f"{type(error).__name__}: {error}"[:1000], hint="see the log of this job")
        return cls(what=error.what[:4000], where=error.where[:4000], hint=error.hint[:4000])


class ProposalSummary(Frozen):
    """`proposal.json`.

    `pull` is the pull request that it was made for, `head` the commit of its branch and `base` the commit of the
    base branch that it was made against. `digest` and `metrics` (on the holdout) are those of the model that the
    branch makes. `data` is the digest of the data folder, where fresh rows of production were added to the base's.
    """

    format: Literal[2] = 2
    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")
    state: ProposalStatus
    pull: int | None = Field(default=None, ge=1)
    head: Commit
    base: Commit
    version: int | None = Field(default=None, ge=1)
    digest: Digest | None = None
    data: DataDigest | None = None
    metrics: dict[MetricName, Number] = Field(default_factory=dict, max_length=100)
    headline: Line = ""
    error: ErrorInfo | None = None


class ApplyOutcome(StrEnum):
    """The result of applying a proposal."""

    APPLIED = "applied"
    PUSHED = "pushed"  # to a branch of the automation's own, whose pull request a person must open
    NOTHING = "nothing"
    OUTDATED = "outdated"
    REFUSED = "refused"


class ApplyResult(Frozen):
    """The outcome; `commit` is the commit that holds the proposal, `error` says what a person must know or do.

    `predicate` is the file of the gate's verdict, where a model was released by this commit.
    """

    outcome: ApplyOutcome
    pull: int | None = None
    commit: str | None = None
    digest: str | None = None
    predicate: str | None = None
    error: ErrorInfo | None = None


_OUTCOMES = TypeAdapter(dict[str, ApplyResult])


@dataclass(frozen=True)
class ProposalBundle:
    """A folder whose names and sizes were checked: `summary`, and its files with their sizes in bytes."""

    folder: Path
    summary: ProposalSummary
    sizes: Mapping[str, int]

    @cached_property
    def report(self) -> str | None:
        """The text of `report.md`, where there is one."""
        return self.text(REPORT)

    @property
    def state(self) -> ProposalStatus:
        """The result of the proposal."""
        return self.summary.state

    @property
    def objects(self) -> tuple[str, ...]:
        """The store's objects in it, as they are named in the store."""
        return tuple(sorted(name.removeprefix("objects/") for name in self.sizes if name.startswith("objects/")))

    def text(self, name: str) -> str | None:
        """The UTF-8 text of one of the files, or None where it is not there.

        Raises:
            BundleError: it is not text.
        """
        if name not in self.sizes:
            return None
        try:
            return (self.folder / name).read_bytes().decode()
        except UnicodeDecodeError:
            raise refusal("the file is not UTF-8 text", name) from None


def write_bundle(
    folder: Path,
    summary: ProposalSummary,
    *,
    report: str | None = None,
    files: Mapping[str, Path | bytes] | None = None,
) -> None:
    """Write the folder anew; an earlier proposal in it is deleted.

    Args:
        folder: where; it is made if it is missing.
        summary: the content of `proposal.json`.
        report: the text of `report.md`, where there is one.
        files: further files by their name in the folder: content, or a file to copy.

    Raises:
        BundleError: a name is not one that a proposal has, or the folder holds something else.
        OSError: the disk is full or the folder is not writable.
    """
    contents: dict[str, Path | bytes] = {**(files or {}), **({REPORT: report.encode()} if report is not None else {})}
    for name in contents:
        _require_name(name)
    if folder.exists():
        for earlier, _ in [*_sizes(folder)]:  # refuses a folder that is something else than a proposal
            (folder / earlier).unlink()
    for name, content in contents.items():
        write_bytes(folder / name, content.read_bytes() if isinstance(content, Path) else content)
    write_json(folder / PROPOSAL_FILE, summary.model_dump(mode="json"))


def read_bundle(folder: Path) -> ProposalBundle:
    """Read a proposal's folder, whoever wrote it.

    Only names, kinds and sizes of files are checked here, and that `proposal.json` and `report.md` can be read;
    nothing large is opened. The objects are not compared with their names.

    Raises:
        BundleError: a file is no regular one, has a name that no proposal has, is too large, there are too many,
            or `proposal.json` does not hold what it must.
    """
    sizes = dict(_sizes(folder))
    if PROPOSAL_FILE not in sizes:
        raise refusal(f"there is no {PROPOSAL_FILE}", str(folder))
    content = (folder / PROPOSAL_FILE).read_bytes()
    try:
        summary = ProposalSummary.model_validate(parse_json(content, PROPOSAL_FILE))
    except (ValidationError, DocumentError) as cause:
        raise refusal(f"not a proposal: {_first_line(cause)}", PROPOSAL_FILE) from None
    bundle = ProposalBundle(folder, summary, sizes)
    _ = bundle.report  # it must be text
    return bundle


def bundle_folders(folder: Path) -> dict[str, Path]:
    """The bundles of a run by their model's name: those in `folder`, or that folder itself, under an empty name.

    Raises:
        BundleError: there are more than a repository has models.
    """
    found = {path.name: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    if not all(path.is_dir() for path in found.values()):
        return {"": folder}  # a bundle has files
    if len(found) > MAX_MODELS:
        raise refusal(f"more than {MAX_MODELS} proposals", str(folder))
    return found or {"": folder}


def read_object(bundle: ProposalBundle, beneath: Read) -> Read:
    """A reader of the bundle's objects, and of `beneath` for all others; it trusts the bundle's names."""
    own = frozenset(bundle.objects)

    def read(name: str) -> bytes | None:
        return (bundle.folder / "objects" / name).read_bytes() if name in own else beneath(name)

    return read


def outcome_file(folder: Path) -> Path:
    """The file of the outcome of the proposal in `folder`: `proposal.outcome.json` next to `proposal`."""
    place = folder.absolute()
    return place.with_name(f"{place.name}.outcome.json")


def write_outcomes(folder: Path, applied: Mapping[str, ApplyResult]) -> None:
    """Write the outcomes of the proposals in `folder`, by the names that `bundle_folders` gives."""
    write_json(outcome_file(folder), {name: one.model_dump(mode="json") for name, one in applied.items()})


def read_outcomes(folder: Path) -> dict[str, ApplyResult]:
    """The outcomes of the proposals in `folder`; none where they were not applied here.

    Raises:
        BundleError: the file is damaged.
    """
    file = outcome_file(folder)
    if not file.exists():
        return {}
    try:
        return _OUTCOMES.validate_json(file.read_bytes())
    except (ValidationError, ValueError) as cause:
        raise BundleError("not an outcome", where=str(file), hint="run mergeline ci apply again") from cause


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    """The files below `folder` with their sizes in bytes; refuses the first thing that must not be there."""
    if folder.is_symlink() or not folder.is_dir():
        raise refusal("there is no such folder", str(folder))
    count = total = 0
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                count += 1
                if count > 2 * MAX_FILES:  # folders count too, or empty ones would be without a bound
                    raise refusal(f"more than {2 * MAX_FILES:,} files and folders", str(folder))
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    if not _FOLDER.fullmatch(name):
                        raise refusal("a proposal has no such folder", name)
                    waiting.append(name)
                    continue
                if not stat.S_ISREG(status.st_mode):
                    raise refusal("neither a file nor a folder", name)
                _require_name(name)
                total += status.st_size
                _require_size(name, status.st_size, total)
                yield name, status.st_size


def _require_name(name: str) -> None:
    if name not in _LIMITS and not _OBJECT.fullmatch(name):
        raise refusal("a proposal has no such file", name)


def _require_size(name: str, size: int, total: int) -> None:
    limit = _LIMITS.get(name, MAX_BYTES)
    if size > limit:
        raise refusal(f"{size:,} bytes are too many: at most {limit:,} are taken", name)
    if total > MAX_BYTES:
        raise refusal(f"the files are larger than {MAX_BYTES:,} bytes in all", name)


def refusal(what: str, name: str, hint: str = RUN_AGAIN) -> BundleError:
    """The error of a proposal that is refused, for a file of it or a place in the repository."""
    shown = PurePosixPath(name.encode("utf-8", "replace").decode()).as_posix()[:200]
    return BundleError(f"the proposal is refused: {what}", where=shown, hint=hint)


def _first_line(cause: Exception) -> str:
    """What a validation found, without the input's own text."""
    if isinstance(cause, ValidationError):
        first = cause.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'the document'}: {first['msg']}"[:300]
    return str(cause).splitlines()[0][:300] if str(cause) else type(cause).__name__
