"""Reads YAML files into frozen models, with errors that name the line and the key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mergeline.errors import DocumentError


class Frozen(BaseModel):
    """A value that is checked when it is made, never changes, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)


def load(path: Path, model: type[Model], error: type[DocumentError] = DocumentError) -> Model:
    """Read the YAML file at `path` as a `model`.

    Raises:
        DocumentError: (or the child of it given as `error`) the file is missing, is not YAML, repeats a
            key, or breaks the model; the message names file, line and key, and the nearest right key.
    """
    return parse(read_text(path, error), model, str(path), error)


def read_text(path: Path, error: type[DocumentError] = DocumentError) -> str:
    """The UTF-8 text of a file that must be there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error(
            "the file is missing",
            where=str(path),
            hint=f"run this at the root of the repository, or bring it back: git checkout -- {path}",
        ) from None
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"the file cannot be read: {cause}", where=str(path), hint="save it as UTF-8 text") from cause


def parse(text: str, model: type[Model], where: str, error: type[DocumentError] = DocumentError) -> Model:
    """Read YAML `text` as a `model`; `where` names it in errors."""
    tree = parse_tree(text, where, error)
    try:
        return model.model_validate(_plain(tree))
    except ValidationError as cause:
        problems = [_explain(detail, tree, model) for detail in cause.errors()]
        raise error(
            "\n  ".join(what for _, what, _ in problems),
            where=f"{where}:{problems[0][0]}",
            hint="; ".join(dict.fromkeys(hint for _, _, hint in problems if hint)),
        ) from None


def parse_tree(text: str, where: str, error: type[DocumentError] = DocumentError) -> Any:
    """Read YAML 1.2 `text` into a tree that keeps order, comments and line numbers."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        tree = YAML().load(text)
    except MarkedYAMLError as cause:
        line = cause.problem_mark.line + 1 if cause.problem_mark else 1
        raise error(
            f"not valid YAML: {cause.problem or cause.context}",
            where=f"{where}:{line}",
            hint="check the indentation and the quotes on this line",
        ) from None
    except YAMLError as cause:
        raise error(f"not valid YAML: {cause}", where=where, hint="save it as plain UTF-8 YAML") from None
    if not isinstance(tree, Mapping):
        raise error(
            f"expected keys and values, found {type(tree).__name__}", where=where, hint="begin with `key: value` lines"
        )
    return tree


def nearest(word: str, words: Sequence[str]) -> str:
    """The likeliest word that was meant, or an empty string."""
    found = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return found[0] if found else ""


def _plain(node: Any) -> Any:
    """The tree as plain Python values: pydantic needs no trace of where they came from."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _explain(detail: ErrorDetails, tree: Any, model: type[BaseModel]) -> tuple[int, str, str]:
    """Line, sentence and hint of one broken rule."""
    path, message = detail["loc"], detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error" and ": " in message:  # a rule over several keys begins with the key to look at
        named, message = message.split(": ", 1)
        path = (*path, *named.split("."))
    key = ".".join(str(part) for part in path)
    line = _line(tree, path)
    if detail["type"] == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        guess = nearest(str(path[-1]), known)
        return (
            line,
            f"unknown key `{key}`",
            f"did you mean `{guess}`?" if guess else f"known keys here: {', '.join(known)}",
        )
    if detail["type"] == "missing":
        return line, f"`{key}` is missing", f"add `{path[-1]}:`"
    found = "" if isinstance(detail["input"], Mapping) else f" (found {detail['input']!r})"
    return line, f"`{key}`: {message[:1].lower()}{message[1:]}{found}", f"give `{path[-1]}` a value of that kind"


def _line(tree: Any, path: Sequence[int | str]) -> int:
    """The 1-based line where `path` stands in `tree`, or of the last part of it that is there."""
    line = 1
    for part in path:
        marks = getattr(tree, "lc", None)
        try:
            line = (marks.key(part) if isinstance(tree, Mapping) else marks.item(part))[0] + 1  # type: ignore[union-attr]
            tree = tree[part]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return line


def _known_keys(model: Any, path: Sequence[int | str]) -> list[str]:
    """The keys that `model` takes at `path`."""
    for part in path:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = _innermost_model(field.annotation)
    fields: Mapping[str, Any] = getattr(model, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


def _innermost_model(annotation: Any) -> Any:
    """The pydantic model inside `X | None`, `tuple[X, ...]` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _innermost_model(argument)
        if found is not None:
            return found
    return None
