"""Adds a model to a repository that has one or more: a home of its own in models/, and its first proposal."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePath

from mergeline.errors import CodeError
from mergeline.files import write_bytes, write_text
from mergeline.home import MODELS, Home, find_homes
from mergeline.image.build import find_uv
from mergeline.manifest.edit import empty_manifest
from mergeline.manifest.schema import MANIFEST_FILE, SCHEMA_FILE, schema_text
from mergeline.params import PARAMS_FILE
from mergeline.release.inputs import PIPELINE_FILE
from mergeline.template.new import DATA_PACKAGES, Answers, require_column, run, template_root

_IGNORED = "# what the pipeline makes: dvc.lock names it, the store holds it\n"
_MADE = ("build", "data", "model", "evaluation", "report", "journal")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")

Say = Callable[[str], None]


def new_model(root: Path, name: str, recipe: str, *, file: Path | None, target: str, say: Say) -> Home:
    """Make the home models/NAME, its package in src/ and its tests; nothing is left where that fails.

    Args:
        root: the repository.
        name: of the model.
        recipe: what it begins with; `blank` reads `file`.
        file: the team's own CSV or Parquet file.
        target: the column to predict; empty takes the file's last one.
        say: takes a line for each step.

    Raises:
        CodeError: the name cannot be a model's and a package's, or is taken.
        DataError: the file has no such target.
        ToolError: the recipe failed, or DVC did not take the data.
    """
    home, package = Home(root, MODELS / name), Answers(name, recipe, "", target, "", "").package
    code, tests = root / "src" / package, root / "tests" / f"test_{package}.py"
    taken = [path for path in (home.folder, code, tests) if path.exists()]
    if not _NAME.fullmatch(name) or taken or name in find_homes(root):
        what = f"{taken[0].relative_to(root)} is there already" if taken else f"{name!r} cannot be a new model's name"
        begun = f"go on with what was begun: mergeline propose --model {name}; or " if home.folder in taken else ""
        raise CodeError(
            what, where="mergeline new-model", hint=f"{begun}take a free name of small letters, digits and -"
        )
    if file is not None:
        require_column(file, target, "--target")
    template = template_root()
    with tempfile.TemporaryDirectory(dir=root, prefix=".new-model.") as scratch:
        draft = Path(scratch)
        shutil.copyfile(template / PARAMS_FILE, draft / PARAMS_FILE)
        say(f"filling it by the recipe {recipe}")
        more = [part for part in (str(file) if file else "", target) if part]
        _fill(root, draft, [recipe, package, name, *more])
        for place, text in _files(template, home, package):
            write_text(draft / place, text)
        owned = _owned(root)
        before = {path: path.read_bytes() for path in (*owned, root / "pyproject.toml") if path.exists()}
        (root / "src").mkdir(exist_ok=True)
        home.folder.parent.mkdir(exist_ok=True)
        try:
            (draft / "src" / package).rename(code)
            (draft / "src").rmdir()
            (draft / "README.md").unlink(missing_ok=True)  # a repository's first page
            shutil.copytree(draft, home.folder)
            say("putting the data into the store")
            run(home.folder, sys.executable, "-m", "dvc", "add", "data")
            write_text(tests, _tests(template, home))
            for path, text in owned.items():
                write_text(path, text)
            with contextlib.suppress(FileNotFoundError):
                _name_package(root / "pyproject.toml", package)
            made: list[PurePath | str] = [
                home.place,
                f"src/{package}",
                tests.relative_to(root),
                "pyproject.toml",
                *owned,
            ]
            run(root, "git", "add", "--", *(str(path) for path in made if (root / path).exists()))
        except BaseException:  # Ctrl-C too: the same command then begins again
            for folder in (home.folder, code):
                shutil.rmtree(folder, ignore_errors=True)
            tests.unlink(missing_ok=True)
            for kept, content in before.items():
                write_bytes(kept, content)
            raise
    return home


def _fill(root: Path, draft: Path, arguments: list[str]) -> None:
    """Let the recipe write package, params and data into a folder."""
    recipe, fill = arguments[0], ["-m", "mergeline.template.fill", *arguments]
    if recipe in DATA_PACKAGES:
        uv = [find_uv(), "run", "--quiet", "--no-sync", "--project", str(root), "--with", DATA_PACKAGES[recipe]]
        run(draft, *uv, "python", *fill)
    else:
        run(draft, sys.executable, *fill)


def _files(template: Path, home: Home, package: str) -> list[tuple[Path, str]]:
    pipeline = (template / PIPELINE_FILE).read_text(encoding="utf-8")
    pipeline = pipeline.replace("src/flights", f"../../src/{package}").replace("[uv.lock,", "[../../uv.lock,")
    return [
        (Path(PIPELINE_FILE), pipeline),
        (MANIFEST_FILE, empty_manifest(home.model)),
        (SCHEMA_FILE, schema_text()),
        (Path(".gitignore"), _IGNORED + "".join(f"/{name}\n" for name in _MADE)),
    ]


def _tests(template: Path, home: Home) -> str:
    """The template's tests, of another home."""
    text = (template / "tests" / "test_repository.py").read_text(encoding="utf-8")
    text = text.replace("read_sample()", "read_sample(HOME)").replace("failed_checks()", "failed_checks(HOME)")
    head, blank, body = text.partition("\n\n\n")
    head = head.replace("import numpy", "from pathlib import Path\n\nimport numpy", 1)
    return f'{head}\n\nHOME = Path(__file__).parents[1] / "{home.place}"{blank}{body}'


def _owned(root: Path) -> dict[Path, str]:
    """CODEOWNERS with the owners of /deploy/ for what every model serves, where it does not say that yet."""
    path, place = root / ".github" / "CODEOWNERS", f"/{MODELS}/*/deploy/"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(r"(?m)^/deploy/(\s.*)$", text)
    return {path: f"{text.rstrip()}\n{place}{found[1]}\n"} if found and place not in text else {}


def _name_package(project: Path, package: str) -> None:
    """Let the team's wheel hold the package."""
    text = project.read_text(encoding="utf-8")
    if f'"src/{package}"' not in text:
        named = re.sub(r'(?m)^packages = \[("[^\]]*")\]$', rf'packages = [\1, "src/{package}"]', text)
        write_text(project, named)
