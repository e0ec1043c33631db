"""Fills a new repository by its recipe: the team's package, its params and its data.

    python -m mergeline.template.fill RECIPE PACKAGE NAME [FILE [TARGET]]

It runs in the repository's own environment, which has the libraries that the recipe's data come from.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from io import StringIO
from pathlib import Path
from typing import Any

from mergeline.errors import MergelineError
from mergeline.files import write_text

COMMENTS = 37
"""The column where the comments of params.yaml begin."""
PACKAGE_FILES = ("__init__.py", "schema.py", "features.py", "model.py")


def fill(root: Path, recipe: str, package: str, name: str) -> None:
    """Write the package, params.yaml, the data and the README of a recipe that brings its own data."""
    place = recipe_folder(recipe)
    for file in PACKAGE_FILES:
        if place.joinpath(file).is_file():
            text = place.joinpath(file).read_text(encoding="utf-8")
            write_text(root / "src" / package / file, text.replace(f"from {recipe}.", f"from {package}."))
    about = resources.files("mergeline.recipes").joinpath(recipe)
    write_params(root, package, name, about.joinpath("params.yaml").read_text(encoding="utf-8"))
    write_text(root / "README.md", readme(name, about.joinpath("README.md").read_text(encoding="utf-8")))
    data = root / "data"
    if not data.exists():
        data.mkdir()
        importlib.import_module(f"mergeline.recipes.{recipe}.data").write(data)


def recipe_folder(recipe: str) -> Traversable:
    """Where a recipe's package is: the template itself is an instance of `flights`, which has its package."""
    place = resources.files("mergeline.recipes").joinpath(recipe)
    own = Path(__file__).resolve().parents[4] / "src" / recipe
    return own if not place.joinpath("model.py").is_file() and own.is_dir() else place


def write_params(root: Path, package: str, name: str, chosen: str) -> None:
    """Put what the recipe chose into the template's params.yaml, whose comments stay."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import RoundTripRepresenter

    class InWords(RoundTripRepresenter):
        """Writes null as a word here; a representer that is added belongs to its class, not to one writer."""

    InWords.add_representer(type(None), lambda shown, _: shown.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml = YAML()
    yaml.Representer = InWords
    yaml.width, yaml.preserve_quotes = 120, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    params = yaml.load((root / "params.yaml").read_text(encoding="utf-8"))
    wanted = yaml.load(chosen)
    schema = wanted.get("data", {}).pop("schema", "Rows")
    _merge(params, wanted)
    params["name"] = name
    params["data"]["schema"] = f"{package}.schema:{schema}"
    params["model"]["factory"] = f"{package}.model:pipeline"
    text = StringIO()
    yaml.dump(params, text)
    # Where a section ends with a mapping that was replaced, the empty line after it went with its comment.
    write_text(root / "params.yaml", re.sub(r"(?m)^( .*)\n(?=[a-z]+:)", r"\1\n\n", text.getvalue()))


def _merge(params: Any, chosen: Any) -> None:
    """Replace what is chosen, section by section, with the comment that says why it was chosen.

    `arguments`, `floors` and lists are taken whole. A new key comes after the one before it in `chosen`, or first.
    """
    before: str | None = None
    for key, value in chosen.items():
        if key in params and isinstance(value, Mapping) and key not in {"arguments", "floors"}:
            _merge(params[key], value)
        elif key in params:
            params[key] = value
        else:
            params.insert(list(params).index(before) + 1 if before in params else 0, key, value)
        reason = chosen.ca.items.get(key, [None, None, None])[2]
        if reason is not None:
            params.yaml_add_eol_comment(reason.value.strip().removeprefix("# "), key, column=COMMENTS)
        before = key


def readme(name: str, about: str) -> str:
    """The repository's first page."""
    return text_of("readme.txt").format(name=name, about=about.strip())


def text_of(file: str) -> str:
    """What a file of a new repository begins with."""
    return resources.files("mergeline.template").joinpath(file).read_text(encoding="utf-8")


def main() -> None:
    """Read the command line."""
    recipe, package, name, *more = sys.argv[1:]
    try:
        if recipe == "blank":
            from mergeline.template.blank import fill_blank

            for line in fill_blank(Path(), package, name, Path(more[0]), more[1] if len(more) > 1 else ""):
                sys.stderr.write(f"· {line}\n")
        else:
            fill(Path(), recipe, package, name)
    except MergelineError as error:
        sys.exit(f"mergeline: {error}")


if __name__ == "__main__":
    main()
