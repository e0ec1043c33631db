"""Runs DVC: reproduces the pipeline, and brings its data here."""

from __future__ import annotations

import codecs
import contextlib
import functools
import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from mergeline.dataset.partitions import data_digest
from mergeline.errors import DataError, ToolError
from mergeline.files import write_bytes
from mergeline.home import Home
from mergeline.model.artifact import MODEL_FOLDER
from mergeline.release import stages
from mergeline.release.inputs import PIPELINE_FILE, stage_definitions
from mergeline.store.dvc_lock import LOCK_FILE, locked_model, locked_outputs, locked_stages, without_stages
from mergeline.store.objects import object_path
from mergeline.warm import FORKS_WORK, Forks, OtherForks, can_fork

_TOLD_BYTES = 1 << 16  # of what DVC and the stages told last
_UNEXPECTED = "ERROR: unexpected error - "
_STAGE_ERROR, _STAGE_HINT = "mergeline: ", "  hint: "


def reproduce(root: Path, meanwhile: Callable[[], object] | None = None, *, trains: bool = False) -> None:
    """Bring data, model and evaluation up to date; what the store knows already is pulled, not made again.

    Args:
        root: the folder of the pipeline.
        meanwhile: called when a stage begins that takes time, where stages run in forks of this process.
        trains: whether a stage will, most likely: what stages import is imported while DVC starts.

    Raises:
        CodeError: the team's package, or a library that it imports, is not installed.
        VersionError: the installed libraries are not those of `uv.lock`.
        ToolError: a stage failed; it has said why on the terminal.
    """
    _forget_the_killed(root)
    failed = ("a stage failed, see above", "fix what it names, and try again")
    pipeline, lock = root / PIPELINE_FILE, snapshot(root)
    names = stage_definitions(pipeline.read_text(encoding="utf-8")) if pipeline.exists() else {}
    if lock is not None and "environment" in names:
        files = stages.environment_files(root)
        if environment_is_outdated(lock.decode(), files):
            # An engine whose source is edited in place changes no file that DVC looks at.
            _dvc(root, ["repro", "--force", "--single-item", "environment"], *failed)
    forks: Forks | OtherForks | None = None
    if can_fork():
        forks = Forks(stages.run, stages.imports(), asked=meanwhile)
    elif trains and FORKS_WORK:
        forks = OtherForks(stages.__name__)
    _dvc(root, ["repro", "--pull"], *failed, forks, early=trains)
    lock = snapshot(root)
    if lock is not None:
        kept = without_stages(lock.decode(), names).encode()
        if kept != lock:
            write_bytes(root / LOCK_FILE, kept)


def environment_is_outdated(lock: str, files: Mapping[Path, bytes]) -> bool:
    """Whether `dvc.lock` names other results of the stage `environment` than `files`.

    Args:
        lock: the text of `dvc.lock`.
        files: what the stage would write now.
    """
    locked = {
        output.path: output.object for output in locked_outputs(locked_stages(lock)) if output.stage == "environment"
    }
    made = {path.as_posix(): hashlib.md5(content, usedforsecurity=False).hexdigest() for path, content in files.items()}
    # Where it has not run yet DVC runs it.
    return bool(locked) and locked != {path: object_path(md5) for path, md5 in made.items()}


def add(root: Path, data: str) -> None:
    """Let DVC take the data folder as it is now.

    Raises:
        ToolError: it could not.
    """
    _dvc(root, ["add", data], "DVC did not take the data, see above", "check room and rights")


def fetch(root: Path, data: str) -> None:
    """Bring the data folder here as its `.dvc` file names it.

    Raises:
        ToolError: the store does not have it, or does not answer.
    """
    _dvc(
        root,
        ["pull", f"{data}.dvc"],
        "the data could not be fetched, see above",
        "check the store: dvc pull",
    )


def require_added(root: Path, data: str) -> None:
    """Refuse data that `dvc add` has not seen: a proposal would name rows that nobody else can get.

    Raises:
        DataError: the folder is not what its `.dvc` file names.
    """
    folder, named = root / data, named_data(root, data)
    if folder.is_dir() and named and data_digest(folder) != named:
        raise DataError(
            f"the folder is not what {data}.dvc names",
            where=f"{data}/",
            hint=f"keep what is there: dvc add {data}; or go back to what was there: dvc checkout {data}.dvc",
        )


def named_data(root: Path, data: str) -> str:
    """The digest of the data folder that its `.dvc` file names, as `md5:….dir`; empty where there is no such file."""
    file = root / f"{data}.dvc"
    if not file.exists():
        return ""
    return f"md5:{YAML(typ='safe').load(file.read_text(encoding='utf-8'))['outs'][0]['md5']}"


def snapshot(root: Path) -> bytes | None:
    """`dvc.lock` as it is; None where there is none yet."""
    file = root / LOCK_FILE
    return file.read_bytes() if file.exists() else None


def resume(root: Path, before: bytes | None) -> None:
    """Go on with the lock that `restore` found: DVC runs no stage again whose inputs and results are as it says."""
    made = _made_after(root, before)
    if made.exists():
        write_bytes(root / LOCK_FILE, made.read_bytes())


def _made_after(root: Path, before: bytes | None) -> Path:
    return root / "build" / f"made-after-{hashlib.sha256(before or b'').hexdigest()[:16]}.lock"


def restore(root: Path, before: bytes | None) -> None:
    """Put back what `snapshot` saw, and keep aside what was made since: it may have taken hours."""
    file = root / LOCK_FILE
    if (made := snapshot(root)) is not None and made != before:
        for old in (root / "build").glob("made-after-*.lock"):
            old.unlink()
        write_bytes(_made_after(root, before), made)
    if before is None:
        file.unlink(missing_ok=True)
    elif snapshot(root) != before:
        write_bytes(file, before)


def model_source(root: Path) -> str:
    """The store object of the model folder that the pipeline has just made.

    Raises:
        DocumentError: `dvc.lock` is missing or damaged.
        ToolError: no stage makes the model folder.
    """
    source = locked_model(root)
    if not source:
        raise ToolError(f"no stage makes {MODEL_FOLDER}/", where=str(root / LOCK_FILE), hint="add it to dvc.yaml")
    return source


def _forget_the_killed(root: Path) -> None:
    """Drop DVC's record of who reads and writes what, where all that it names were killed.

    DVC does so itself, but takes a killed process for alive until its parent has asked how it ended.
    """
    file = Home.at(root).root / ".dvc" / "tmp" / "rwlock"
    if file.exists() and not any(map(_lives, re.findall(r'"pid": *(\d+)', file.read_text(encoding="utf-8")))):
        file.unlink(missing_ok=True)


def _lives(pid: str) -> bool:
    try:
        return bool(psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def dvc_command(*arguments: str) -> list[str]:
    """DVC of this environment."""
    return [sys.executable, "-P", "-m", "dvc", *arguments]


def dvc_environment() -> dict[str, str]:
    """The variables that DVC is called with: the programs of this environment come first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}


def _dvc(
    root: Path,
    arguments: Sequence[str],
    what: str,
    hint: str,
    forks: Forks | OtherForks | None = None,
    *,
    early: bool = False,
) -> None:
    """Call DVC with the programs of this environment first on the path, and let its stages run in `forks`."""
    told = bytearray()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def tell(content: bytes) -> None:
        # A stage's error is this verb's own: it is said once, at the end.
        if not re.search(rb"(?m)^mergeline: ", told):
            sys.stderr.write(re.split(rf"(?m)^{_STAGE_ERROR}", decoder.decode(content), maxsplit=1)[0])
            sys.stderr.flush()
        told.extend(content)
        del told[:-_TOLD_BYTES]

    # DVC tells its steps on standard output, and what went wrong on standard error, where the stages speak too.
    process = subprocess.Popen(
        dvc_command(*arguments),
        cwd=root,
        env=dvc_environment() | (forks.variables if forks else {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with process, forks or contextlib.nullcontext():  # the forks end first: DVC waits for them
        assert process.stderr is not None  # noqa: S101 - Popen was given a pipe
        if isinstance(forks, Forks):
            forks.serve_until_end(process.stderr.fileno(), tell, early=early)
        else:
            for content in iter(functools.partial(os.read, process.stderr.fileno(), 1 << 16), b""):
                tell(content)
    if process.returncode:
        raise _explain(told.decode(errors="replace").splitlines(), f"dvc {' '.join(arguments)}", what, hint)


def _explain(told: Iterable[str], command: str, what: str, hint: str) -> ToolError:
    """The error of a stage as the stage told it; where none did, what can be said without it."""
    lines = list(told)
    starts = [index for index, line in enumerate(lines) if line.startswith(_STAGE_ERROR)]
    if not starts:
        unexpected = [line.partition(_UNEXPECTED)[2] for line in lines if line.startswith(_UNEXPECTED)]
        if unexpected:  # nearly always the store's: DVC knows its own by name
            what, hint = f"DVC failed: {unexpected[-1]}", f"check that the store answers (dvc remote list), and {hint}"
        return ToolError(what, where=command, hint=hint)
    block = [lines[starts[-1]].removeprefix(_STAGE_ERROR)]
    block += itertools.takewhile(lambda line: line.startswith("  "), lines[starts[-1] + 1 :])
    said = "\n".join(line for line in block if not line.startswith(_STAGE_HINT))
    hints = [line.removeprefix(_STAGE_HINT) for line in block if line.startswith(_STAGE_HINT)]
    return ToolError(f"a stage failed: {said}", where=command, hint="; ".join(hints) or hint)
