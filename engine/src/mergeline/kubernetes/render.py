"""Writes deploy/kubernetes: base and components anew each time, what a team changes once."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import jinja2

from mergeline.errors import StoreError
from mergeline.files import write_text
from mergeline.github.git import Git
from mergeline.manifest.schema import MANIFEST_FILE
from mergeline.params import PARAMS_FILE, read_params
from mergeline.store.objects import configured_store

DEPLOY = Path(MANIFEST_FILE).parent
RULES = DEPLOY / "observability" / "rules"
PRODUCTION = "production"
"""The environment whose manifest is deploy/manifest.yaml; any other's is deploy/ENVIRONMENT/manifest.yaml."""
REPLICAS = {PRODUCTION: 3}
PLACEHOLDER = "https://github.com/OWNER/REPOSITORY"


class Rendered(NamedTuple):
    """The files that were written, and those of the team that were left alone, from the root."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]


def render(root: Path) -> Rendered:
    """Write the Kubernetes files of the home at `root`.

    Base and components are the engine's and are written anew. An overlay, an environment's kustomization and Argo CD's
    files are the team's: one that is there stays.

    Raises:
        ParamsError: `params.yaml` is missing or wrong.
    """
    name = read_params(root / PARAMS_FILE).name
    git = Git(root)
    code, origin, _ = git.attempt("remote", "get-url", "origin")
    outside, found_top, _ = git.attempt("rev-parse", "--show-toplevel")
    top = root.resolve() if outside else Path(found_top.strip()).resolve()
    home = root.resolve().relative_to(top)
    repository = web_address(origin) if code == 0 else PLACEHOLDER
    facts = {
        "name": name,
        "repository": f"{repository}.git",
        "path": (home / DEPLOY).as_posix(),
        "image": f"ghcr.io/{repository.split('/', 3)[3].lower()}",
        "tag": git.attempt("rev-parse", "HEAD")[1].strip() or "latest",
        "store": store_address(root, top, repository),
        "rules": textwrap.indent(rules(root / RULES), "    ").rstrip(),
    }
    templates = _templates()
    ours = [place for place in templates.list_templates() if place.startswith(("base/", "components/"))]
    argocd = [place for place in templates.list_templates() if place.startswith("argocd/")]
    theirs = [(DEPLOY / "kubernetes" / place, place, facts) for place in argocd]
    found = sorted(path.parent.name for path in (root / DEPLOY).glob("*/manifest.yaml"))
    for environment in dict.fromkeys(("staging", PRODUCTION, *found)):
        folder = DEPLOY if environment == PRODUCTION else DEPLOY / environment
        here = {
            **facts,
            "environment": environment,
            "folder": (home / folder).as_posix(),
            "up": "" if environment == PRODUCTION else "../",
            "namespace": name if environment == PRODUCTION else f"{name}-{environment}",
            "replicas": str(REPLICAS.get(environment, 1)),
        }
        overlay = DEPLOY / "kubernetes" / "overlays" / environment / "kustomization.yaml"
        theirs.append((overlay, "environment/overlay.yaml", here))
        if environment == PRODUCTION or environment in found:
            theirs.append((folder / "kustomization.yaml", "environment/kustomization.yaml", here))
    kept = tuple(place for place, _, _ in theirs if (root / place).exists())
    written = [(DEPLOY / "kubernetes" / place, place, facts) for place in ours]
    written += [each for each in theirs if each[0] not in kept]
    for place, template, values in written:
        write_text(root / place, templates.get_template(template).render(values))
    return Rendered(tuple(place for place, _, _ in written), kept)


def web_address(origin: str) -> str:
    """A remote's address as a browser opens it; the placeholder where it is a folder or not understood."""
    found = re.fullmatch(r"(?:https?://(?:[^@/]*@)?|(?:ssh://)?git@)([^:/]+)[:/](.+?/.+?)(?:\.git)?/?", origin.strip())
    return f"https://{found[1]}/{found[2]}" if found else PLACEHOLDER


def store_address(root: Path, top: Path, repository: str) -> str:
    """Where pods fetch models: DVC's remote, or what GitHub shows of a store in the repository's main branch.

    Args:
        root: the home.
        top: the repository's folder.
        repository: its address, as a browser opens it.
    """
    try:
        url = configured_store(root).url
    except StoreError:
        url = "store"
    if "://" in url:
        return url
    folder = Path(os.path.relpath(url, top)) if Path(url).is_absolute() else Path("store")
    raw = repository.replace("https://github.com/", "https://raw.githubusercontent.com/", 1)
    return f"{raw}/main/{folder.as_posix()}"


def rules(folder: Path) -> str:
    """The groups of every rule file, as the items of one list."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yml"))]
    return "\n".join(textwrap.dedent(text.partition("groups:\n")[2]).rstrip() for text in texts) or "[]"


def _templates() -> jinja2.Environment:
    """The templates by their place in the package."""
    # Braces are Argo CD's and Prometheus' own.
    return jinja2.Environment(
        loader=jinja2.PackageLoader("mergeline.kubernetes", ""),
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        comment_start_string="[#",
        comment_end_string="#]",
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML, not HTML
    )
