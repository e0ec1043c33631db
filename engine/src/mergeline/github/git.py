"""Calls git: typed, without a shell, without prompts, with git's own words in the errors."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from mergeline.errors import ForgeError

NOBODY = {"user.name": "Mergeline", "user.email": "mergeline@localhost"}
"""Who commits where nobody is configured."""

_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_MERGE_AUTOEDIT": "no",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",  # a name from a branch's files, as `:(exclude)*`, is a name
    "LC_ALL": "C.UTF-8",
}
# Whoever sets these means to answer for a person; nobody else is asked.
_DEFAULTS = {"GIT_ASKPASS": "true", "SSH_ASKPASS": "true", "GIT_SSH_COMMAND": "ssh -oBatchMode=yes"}
# A git hook sets these for the repository it runs in; here the folder alone says which one is meant.
_FOREIGN = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
)
UNDER_WAY = "end it first: git commit (or git cherry-pick --continue), or give it up with --abort; then again"
_HINTS = (
    ("not a git repository", "run this inside a clone, or make a repository: git init"),
    ("stale info", "somebody else moved the branch: fetch it and look before pushing again"),
    ("fetch first|non-fast-forward|\\[rejected\\]", "the branch moved: fetch it and build on its newest commit"),
    ("protected branch|pre-receive hook declined", "open a pull request instead of pushing to this branch"),
    ("index.lock|cannot lock ref", "another git is at work here: wait for it, then try again"),
    (
        "safe.bareRepository",
        "git refuses bare repositories here: git config --global safe.bareRepository all, or work in a clone",
    ),
    ("dubious ownership", "the folder belongs to another user: git config --global --add safe.directory <folder>"),
    (
        "could not read Username|Authentication failed|Permission denied|terminal prompts disabled",
        "give git credentials",
    ),
    ("Could not resolve host|unable to access|Could not read from remote", "check the remote's address: git remote -v"),
    ("would be overwritten", "commit or stash what you have changed first"),
    ("unknown revision|bad revision|Needed a single revision|ambiguous argument", "fetch first, and check the name"),
    ("partial commit during", UNDER_WAY),
    ("No space left", "make room on the disk"),
)
# What git says where a commit, tree or path is not there, or is no file; anything else that it says is a failure.
_NO_FILE = re.compile(
    r"does not exist|exists on disk, but not in|bad file$|[Ii]nvalid object name|alid object name", re.M
)
_SECRET = re.compile(r"(://)[^@/\s]+@")
_LINE_END = re.compile(r"\r\n?")
# A process start costs more than most answers, and what git says of an object by its whole name never changes.
_LASTING = re.compile(
    r"(?:cat-file blob|ls-tree(?: -[\w-]+)*|rev-parse(?: --\w[\w-]*)*) [0-9a-f]{40}(?:[0-9a-f]{24})?(?![^\s:^])"
    r"|merge-base --is-ancestor [0-9a-f]{40,64} [0-9a-f]{40,64}$"
)
_LASTING_BYTES, _LASTING_ANSWERS = 1 << 16, 1024
_lasting: dict[tuple[str, tuple[str, ...]], bytes] = {}


def credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that let git use the token of a workflow's job, or none.

    The token reaches git through its environment alone: never an argument that other processes can see, never
    a file. It is sent to the server that the job runs for and to nobody else. Outside GitHub Actions git's own
    credentials are what people have set up.

    Args:
        environment: GITHUB_SERVER_URL and GITHUB_TOKEN, and git's own GIT_CONFIG_COUNT where settings are given.
    """
    server, token = environment.get("GITHUB_SERVER_URL", "").rstrip("/"), environment.get("GITHUB_TOKEN", "")
    if not server.startswith(("https://", "http://127.0.0.1", "http://localhost")) or not token:
        return {}
    count = int(environment.get("GIT_CONFIG_COUNT") or 0)
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    # The empty value takes away what actions/checkout may have left: a second header is refused.
    values = ("", f"AUTHORIZATION: basic {basic}")
    given = {"GIT_CONFIG_COUNT": str(count + len(values))}
    for index, value in enumerate(values, start=count):
        given |= {f"GIT_CONFIG_KEY_{index}": f"http.{server}/.extraheader", f"GIT_CONFIG_VALUE_{index}": value}
    return given


class Git:
    """One repository, with or without a work tree, at `folder`; `index` takes the place of its own one."""

    def __init__(self, folder: Path, index: Path | None = None) -> None:
        self.folder, self.index = folder, index

    @classmethod
    def init(cls, folder: Path, *, bare: bool = False, branch: str = "main") -> Git:
        """Make an empty repository; one that is there already is left as it is."""
        folder.mkdir(parents=True, exist_ok=True)
        git = cls(folder)
        git.run("init", "--quiet", f"--initial-branch={branch}", *(["--bare"] if bare else []))
        return git

    @classmethod
    def clone(cls, url: str, folder: Path) -> Git:
        """Clone the repository at `url` into `folder`, which must be empty or new."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        cls(folder.parent).run("clone", "--quiet", "--", url, str(folder.resolve()))
        return cls(folder)

    def run(self, *arguments: str, stdin: str | None = None, settings: Mapping[str, str] | None = None) -> str:
        """Run one git command.

        Args:
            *arguments: the command and its arguments.
            stdin: what it reads.
            settings: configuration for this one command.

        Returns:
            What it printed, without the line breaks at its end.

        Raises:
            ForgeError: git is missing, or it failed.
        """
        code, out, err = self.attempt(*arguments, stdin=stdin, settings=settings)
        if code:
            raise self.error(arguments, err or out)
        return out

    def attempt(
        self, *arguments: str, stdin: str | None = None, settings: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Run one git command that may fail: its exit code, its output as `run` gives it, and its errors.

        Raises:
            ForgeError: git is missing, or the folder is.
        """
        code, out, err = self._call(arguments, stdin, settings)
        return code, out.rstrip("\n"), err.strip()

    def _call(
        self, arguments: tuple[str, ...], stdin: str | None = None, settings: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        given = None if stdin is None else stdin.encode(errors="surrogateescape")
        code, *said = self._call_bytes(arguments, given, settings)
        out, err = (content.decode(errors="surrogateescape") for content in said)
        return code, out if "-z" in arguments else _LINE_END.sub("\n", out), _LINE_END.sub("\n", err)

    def _call_bytes(
        self, arguments: tuple[str, ...], stdin: bytes | None = None, settings: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, bytes]:
        key = (str(self.folder), arguments)
        if (known := _lasting.get(key)) is not None:
            return 0, known, b""
        options = [part for name, value in (settings or {}).items() for part in ("-c", f"{name}={value}")]
        environment = _environment() | ({"GIT_INDEX_FILE": str(self.index)} if self.index else {})
        try:
            done = subprocess.run(
                ["git", *options, *arguments],
                cwd=self.folder,
                env=environment,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            if not self.folder.is_dir():
                raise ForgeError("there is no such folder", where=str(self.folder), hint="clone it first") from None
            raise ForgeError("git is not installed", where="PATH", hint="install git 2.38 or newer") from None
        except (OSError, ValueError) as cause:  # a name that no file can have: with NUL in it, or without an end
            raise ForgeError(
                f"git cannot be asked for that: {cause}",
                where=" ".join(arguments)[:200],
                hint="correct the name in params.yaml or dvc.yaml",
            ) from None
        if done.returncode == 0 and len(done.stdout) <= _LASTING_BYTES and _lasts(arguments):
            if len(_lasting) >= _LASTING_ANSWERS:
                _lasting.clear()
            _lasting[key] = done.stdout
        return done.returncode, done.stdout, done.stderr

    def error(self, arguments: tuple[str, ...], words: str) -> ForgeError:
        """The error of a command that failed, with git's own words and what helps."""
        told = _SECRET.sub(r"\1", words.strip()) or "git failed without a word"
        command = _SECRET.sub(r"\1", " ".join(arguments[:3]))
        hints = (hint for pattern, hint in _HINTS if re.search(pattern, told))
        return ForgeError(
            told,
            where=f"git {command} in {self.folder}",
            hint=next(hints, f"run it in {self.folder} yourself to see more"),
        )

    def find(self, revision: str) -> str | None:
        """The commit that `revision` names; None where there is none, or no repository.

        Raises:
            ForgeError: git cannot say: a repository that it does not trust is not one without commits.
        """
        return self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")

    def branch(self) -> str | None:
        """The branch of the work tree; None on a detached head, or where there is no repository.

        Raises:
            ForgeError: git cannot say.
        """
        return self._ask("symbolic-ref", "--quiet", "--short", "HEAD")

    def _ask(self, *arguments: str) -> str | None:
        """What a quiet command found: it ends with 1 where there is nothing, and with more where it failed."""
        code, out, err = self.attempt(*arguments)
        if code == 0:
            return out
        above = (self.folder.absolute(), *self.folder.absolute().parents)
        if code == 1 or ("not a git repository" in err and not any((folder / ".git").exists() for folder in above)):
            return None
        raise self.error(arguments, err)

    def changed(self) -> tuple[str, ...]:
        """The paths in the work tree that differ from the last commit, new ones included."""
        out = self.run("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames")
        return tuple(entry[3:] for entry in out.split("\0") if entry)

    def show(self, revision: str, path: str) -> str | None:
        """The text of a file at a revision, or None where it has no such file."""
        code, out, err = self._call(("cat-file", "blob", f"{revision}:{path}"))
        if code and self.find(revision) is None:
            raise self.error(("show", revision), f"unknown revision {revision}")
        if code and not _NO_FILE.search(err):
            raise self.error(("show", revision), err)
        return out if code == 0 else None

    def blob(self, name: str) -> bytes | None:
        """The bytes of a file in the history, named as `<commit or tree>:<path>`, or None where there is none.

        Raises:
            ForgeError: git cannot say.
        """
        command = ("cat-file", "blob", name)
        code, content, err = self._call_bytes(command)
        words = err.decode(errors="replace")
        if code and not _NO_FILE.search(words):
            raise self.error(command, words)
        return content if code == 0 else None

    def text(self, tree: str, path: str) -> str:
        """The text of a file of a commit or tree; empty where it has no such file."""
        return (self.blob(f"{tree}:{path}") or b"").decode(errors="replace")

    def switch(self, branch: str, *, start: str | None = None) -> None:
        """Go to `branch`; with `start`, make it new there, whatever it was before."""
        self.run("switch", "--quiet", *(["--force-create", branch, start] if start else [branch]))

    def commit(self, message: str, *paths: str) -> str:
        """Commit what these paths hold now (deleted ones too), and nothing else.

        Returns:
            The new commit, or the present one where nothing differs.
        """
        self.run("add", "--all", "--", *paths)
        if self.attempt("diff", "--cached", "--quiet", "--", *paths)[0]:
            self.run("commit", "--quiet", "--file=-", "--only", "--", *paths, stdin=message, settings=self.identity())
        return self.run("rev-parse", "HEAD")

    def identity(self) -> dict[str, str]:
        """The settings that a commit needs where nobody is configured."""
        known = self.attempt("config", "--name-only", "--get-regexp", r"^user\.(name|email)$")[1].splitlines()
        return {name: value for name, value in NOBODY.items() if name not in known}

    def address(self, remote: str) -> str:
        """The address of a remote.

        Raises:
            ForgeError: there is no such remote.
        """
        code, url, _ = self.attempt("remote", "get-url", remote)
        if code:
            raise ForgeError(
                f"there is no remote {remote!r}",
                where=str(self.folder),
                hint=f"git remote add {remote} ADDRESS; a bare repository beside this one will do: git init --bare",
            )
        return url

    def fetch(self, remote: str, *branches: str) -> None:
        """Bring the remote's branches (all, where none is named) to `refs/remotes/`."""
        self.address(remote)
        wanted = [f"+refs/heads/{branch}:refs/remotes/{remote}/{branch}" for branch in branches]
        self.run("fetch", "--quiet", "--prune", remote, *wanted)

    def remote_head(self, remote: str, branch: str) -> str | None:
        """The commit that a branch has on the remote now, or None where it has no such branch."""
        out = self.run("ls-remote", "--quiet", remote, f"refs/heads/{branch}")
        return out.split()[0] if out else None

    def push(self, remote: str, branch: str, *, expected: str | None) -> None:
        """Push the local `branch`, and replace the remote's only if that is still at `expected`.

        Args:
            remote: a remote's name or address.
            branch: the branch, here and there.
            expected: the commit that the remote's branch has, as `remote_head` said; None if it has none.

        Raises:
            ForgeError: the remote's branch moved since, or the remote refused.
        """
        lease = f"--force-with-lease=refs/heads/{branch}:{expected or ''}"
        self.run("push", "--quiet", lease, remote, f"refs/heads/{branch}:refs/heads/{branch}")

    def bring(self, remote: str, commit: str) -> bool:
        """Whether a commit is here, fetched where it was not; the remote may have deleted its branch."""
        return self.find(commit) is not None or self.attempt("fetch", "--quiet", remote, commit)[0] == 0

    @contextlib.contextmanager
    def worktree(self, folder: Path, commit: str) -> Iterator[Git]:
        """A work tree of its own at a commit, for as long as the context lasts.

        What was killed in it before is removed first; a process that is left of it finds its files gone.

        Args:
            folder: where; each work tree is a new folder in there. It is on the repository's disk, and ignored.
            commit: what is checked out, on no branch.

        Raises:
            ForgeError: another process is at work in `folder`, or git refused.
        """
        with self._worktrees(folder):
            place = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder))
            own = Git(place)
            # What git keeps of a new work tree is damaged until its first commit is written: that is done at once.
            self.run("worktree", "add", "--quiet", "--detach", "--no-checkout", str(place), commit)
            own.run("reset", "--quiet", "--hard")
            yield own

    def remove_worktrees(self, folder: Path) -> None:
        """Remove what `worktree` has left in a folder where it was killed: git may fetch nothing meanwhile.

        Raises:
            ForgeError: another process is at work there.
        """
        with self._worktrees(folder):
            pass

    @contextlib.contextmanager
    def _worktrees(self, folder: Path) -> Iterator[None]:
        """Hold the folder of work trees, which is empty before and after."""
        records = self.folder / self.run("rev-parse", "--git-common-dir") / "worktrees"

        def clear() -> None:
            for place in (*folder.glob(f"{folder.name}-*"), *records.glob(f"{folder.name}-*")):
                shutil.rmtree(place, ignore_errors=True)

        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(FileLock(folder / "lock", blocking=False))
            except Timeout:
                raise ForgeError(
                    "the same is being done by another process", where=str(folder), hint="wait until that has ended"
                ) from None
            clear()
            stack.callback(clear)
            yield


def _lasts(arguments: tuple[str, ...]) -> bool:
    """Whether a command that has found something will always find the same."""
    return _LASTING.match(" ".join(arguments)) is not None


def _environment() -> dict[str, str]:
    """What git is told by its environment: no prompts, no editor, no repository but the folder's own.

    Any command may have to ask the server: in a clone without files it fetches those that it needs.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN} | _ENVIRONMENT
    for name, value in _DEFAULTS.items():
        environment.setdefault(name, value)
    return environment | credentials(environment)
