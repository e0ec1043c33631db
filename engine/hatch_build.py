"""Puts the template into the wheel, so that `mergeline new` works where there is no checkout of it."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitattributes", ".github", ".gitignore",
    ".devcontainer", ".pre-commit-config.yaml", ".python-version",
    "Makefile", "[[ _copier_conf.answers_file ]].jinja", "copier.yml", "deploy", "docs", "dvc.yaml", "notebooks",
    "params.yaml", "pyproject.toml", "tests", "uv.lock",
)  # fmt: skip
"""What is rendered; copier.yml says what of it a team gets."""


class TemplateHook(BuildHookInterface):  # type: ignore[type-arg]
    """An editable installation finds the template beside itself, and gets no copy."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files for a wheel."""
        if version != "standard" or not (ROOT / "copier.yml").exists():
            return
        for name in FILES:
            for path in [ROOT / name] if (ROOT / name).is_file() else sorted((ROOT / name).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    place = path.relative_to(ROOT).as_posix()
                    build_data["force_include"][str(path)] = f"mergeline/template/root/{place}"
        source = _source()
        if source:
            place = Path(tempfile.mkdtemp()) / "source.yml"
            place.write_text(source)
            build_data["force_include"][str(place)] = "mergeline/template/root/source.yml"
        for path in sorted((ROOT / "src" / "flights").glob("*.py")):
            build_data["force_include"][str(path)] = f"mergeline/recipes/flights/{path.name}"


def _source() -> str:
    """Where the template is kept, and its commit here, as lines of the answers file; none outside a public checkout."""
    asked = (["remote", "get-url", "origin"], ["describe", "--tags", "--always"])
    told = [subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False) for words in asked]
    url, commit = (done.stdout.strip() for done in told)
    known = all(done.returncode == 0 for done in told) and re.match(r"(https|ssh|git)://|git@", url)
    return f"_commit: {commit}\n_src_path: {url}\n" if known else ""
