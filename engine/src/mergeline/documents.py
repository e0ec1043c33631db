"""Reads YAML and JSON within bounds, and into frozen models with errors that name the line and the key.

Whoever wrote the text, reading it costs little: size, depth and the number of values are bounded, aliases are refused
(a few lines of them describe a document that no memory holds), and so are duplicate keys, of which a reader and a
machine may take different ones.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mergeline.errors import DocumentError, MergelineError


class Frozen(BaseModel):
    """A value that is checked when it is made, never changes, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_FORMS: dict[str, tuple[str, str]] = {}


def text_like(pattern: str, what: str, form: str) -> Any:
    """A field of text in one form, of which errors speak in words: `what` it is, and how it is written."""
    _FORMS[pattern] = what, form
    return Field(pattern=pattern)


if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from ruamel.yaml import YAML

Model = TypeVar("Model", bound=BaseModel)

MAX_CHARACTERS = 500_000  # of one document; a dvc.lock of five stages has 6,000
MAX_VALUES = 20_000  # keys and values in it: at most about a second of reading
MAX_BYTES = 50_000_000  # of a file of text; of JSON Python makes up to twenty times as many
MAX_DEPTH = 40  # dvc.lock nests params about ten deep
MAX_NUMBER = 100  # characters of one number or time
MAX_TOLD = 20  # problems of one document that are told, of as many characters each as `_TOLD`
_TOLD = 500
_CONFLICT = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_KEPT = 20_000  # characters of a document whose tree is kept; a longer one would fill the memory with others like it

_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_TEXT = re.compile(r"(?!(?:null|true|false)$)[A-Za-z_/]", re.IGNORECASE)  # begins what YAML 1.2 takes for text
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]+(?:e-?[0-9]+)?|e-[0-9]+)?")  # with a group: no integer
_RARE = re.compile("[^\n -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def load(path: Path, model: type[Model], error: type[DocumentError] = DocumentError) -> Model:
    """Read the YAML file at `path` as a `model`.

    Raises:
        DocumentError: (or the child of it given as `error`) the file is missing, is not YAML within our bounds, or
            breaks the model; the message names file, line and key, and the nearest right key.
    """
    return parse(read_text(path, error), model, str(path), error)


def read_text(path: Path, error: type[DocumentError] = DocumentError) -> str:
    """The UTF-8 text of a file that must be there."""
    try:
        if path.exists() and not path.is_file():  # opening a FIFO would wait for ever
            raise error("this is not a file", where=str(path), hint=f"bring the file back: git checkout -- {path}")
        if path.stat().st_size > MAX_BYTES:
            raise error(f"the file has more than {MAX_BYTES:,} bytes", where=str(path), hint="make it shorter")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = f"run this at the root of the repository, or bring it back: git checkout -- {path}"
        raise error("the file is missing", where=str(path), hint=hint) from None
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"the file cannot be read: {cause}", where=str(path), hint="save it as UTF-8 text") from cause


def parse(text: str, model: type[Model], where: str, error: type[DocumentError] = DocumentError) -> Model:
    """Read YAML `text` as a `model`; `where` names it in errors."""
    try:
        return model.model_validate(_plain(_tree(text, where, error, "rt")))
    except ValidationError as cause:
        tree = parse_tree(text, where, error)
        found = cause.errors()
        problems = [_explain(detail, tree, model) for detail in found[:MAX_TOLD]]
        more = [f"… and {len(found) - MAX_TOLD} more"] if len(found) > MAX_TOLD else []
        raise error(
            "\n  ".join([*(what[:_TOLD] for _, what, _ in problems), *more]),
            where=f"{where}:{problems[0][0]}",
            hint="; ".join(dict.fromkeys(hint[:_TOLD] for _, _, hint in problems if hint)),
        ) from None


def parse_tree(text: str, where: str, error: type[DocumentError] = DocumentError) -> Any:
    """Read YAML 1.2 `text` into a tree that keeps order, comments and line numbers; nobody may change it.

    Raises:
        DocumentError: as `parse_plain`.
    """
    return _tree(text, where, error, "rt", lines=True)


def parse_plain(text: str, where: str, error: type[DocumentError] = DocumentError) -> dict[Any, Any]:
    """Read YAML 1.2 `text`, whoever wrote it, as a dictionary of plain values.

    Raises:
        DocumentError: it is not YAML, or not keys and values; it repeats a key, has aliases, or is too large or deep.
    """
    return dict(copy.deepcopy(_tree(text, where, error, "safe")))


def yaml_reader(kind: Literal["rt", "safe"] = "rt") -> YAML:
    """A reader of YAML that refuses aliases, tags, deep nesting, endless documents; "rt" keeps comments and lines."""
    from ruamel.yaml import YAML

    reader = YAML(typ=kind, pure=True)
    reader.Composer = _bounded_composer()
    return reader


def parse_json(content: bytes | str, where: str, error: type[MergelineError] = DocumentError) -> Any:
    """Read JSON in UTF-8, whoever wrote it.

    Raises:
        MergelineError: (the child of it given as `error`) it is not JSON, repeats a key, names a number that is none
            (NaN, 1e400) or half a character, nests too deep, or is larger than any file that we write.
    """
    if len(content) > MAX_BYTES:
        what = f"{len(content):,} bytes are too many, at most {MAX_BYTES:,} are read"
        raise error(what, where=where, hint="make it smaller")
    try:
        text = content.decode() if isinstance(content, bytes) else content
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as cause:
        raise error(f"not valid JSON: {str(cause)[:200]}", where=where, hint="make the file again") from None
    return found


def _tree(
    text: str, where: str, error: type[DocumentError], kind: Literal["rt", "safe"], *, lines: bool = False
) -> Mapping[Any, Any]:
    if len(text) > MAX_CHARACTERS:
        what = f"the file has {len(text):,} characters, more than {MAX_CHARACTERS:,}"
        raise error(what, where=where, hint="make it shorter")
    quickly, load = (_quickly, _load) if len(text) <= _KEPT else (_quickly.__wrapped__, _load.__wrapped__)
    if not (tree := None if lines else quickly(text)):
        from ruamel.yaml.error import MarkedYAMLError, YAMLError  # only here: importing it takes time

        try:
            tree = load(text, kind)
        except MarkedYAMLError as cause:
            if marker := _CONFLICT.search(text):
                line, hint = text.count("\n", 0, marker.start()) + 1, "solve it: keep what is right, delete the markers"
                raise error("git's conflict markers are in it", where=f"{where}:{line}", hint=hint) from None
            line = cause.problem_mark.line + 1 if cause.problem_mark else 1
            problem = (cause.problem or cause.context or "").splitlines()[0][:200]
            refused = cause.note if isinstance(cause, _bounded_composer().RefusedError) else ""
            hint = refused or "check the indentation and the quotes on this line"
            raise error(f"not valid YAML: {problem}", where=f"{where}:{line}", hint=hint) from None
        except (YAMLError, ValueError, OverflowError, RecursionError, AssertionError) as cause:  # of `%YAML 1.3`
            problem = str(cause).splitlines()[0][:200]
            raise error(f"not valid YAML: {problem}", where=where, hint="save it as plain UTF-8 YAML") from None
    if not isinstance(tree, Mapping):
        what = f"expected keys and values, found {type(tree).__name__}"
        raise error(what, where=where, hint="begin with `key: value` lines")
    return tree


@lru_cache(maxsize=16)
def _load(text: str, kind: Literal["rt", "safe"]) -> Any:
    """What the text holds: a verb comes back to the same params and manifest many times, at 50 ms a reading."""
    return yaml_reader(kind).load(text)


@lru_cache(maxsize=32)
def _quickly(text: str) -> Any:
    """What an ordinary text holds, read in C in a tenth of the time; None where only ruamel can say what it means.

    That is whatever may be an error, or mean something else in YAML 1.1: tags, aliases, rare characters and numbers.
    """
    import yaml

    if not yaml.__with_libyaml__ or _RARE.search(text):
        return None
    try:
        events = islice(yaml.parse(text, Loader=yaml.CSafeLoader), MAX_VALUES)
        _, start = next(events), next(events)
        if not isinstance(start, yaml.DocumentStartEvent) or start.version or start.tags:
            return None
        tree = _built(next(events), events, MAX_DEPTH - 1)
        _, end = next(events), next(events)
    except (yaml.YAMLError, ValueError, StopIteration):
        return None
    return tree if isinstance(end, yaml.StreamEndEvent) else None


def _built(event: Any, events: Iterator[Any], depth: int) -> Any:
    """The value that begins with an event, with so many levels of others in it; ValueError where it is not ordinary."""
    import yaml

    if getattr(event, "anchor", "") is not None or event.tag is not None:
        raise ValueError("an anchor, an alias or a tag")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event.value) if event.implicit[0] else event.value
    if not depth:
        raise ValueError("nested too deep, or a key of keys")
    if isinstance(event, yaml.SequenceStartEvent):
        items = takewhile(lambda each: not isinstance(each, yaml.SequenceEndEvent), events)
        return [_built(item, events, depth - 1) for item in items]
    found: dict[Any, Any] = {}
    for each in takewhile(lambda each: not isinstance(each, yaml.MappingEndEvent), events):
        key = _built(each, events, 0)
        if key in found:
            raise ValueError("a repeated key")
        found[key] = _built(next(events), events, depth - 1)
    return found


def _scalar(value: str) -> Any:
    """What a value without quotes is."""
    if value in _WORDS:
        return _WORDS[value]
    if _TEXT.match(value):
        return value
    if len(value) <= MAX_NUMBER and (number := _NUMBER.fullmatch(value)):
        return float(value) if number[1] else int(value)
    from ruamel.yaml.resolver import implicit_resolvers

    if any((1, 2) in versions and pattern.match(value) for versions, _, pattern, _ in implicit_resolvers):
        raise ValueError("a number, a date or a word of another form")
    return value


@cache
def _bounded_composer() -> Any:
    """The class that ruamel composes documents with, made when it is first needed: importing ruamel takes time."""
    from ruamel.yaml.composer import Composer
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.events import AliasEvent, ScalarEvent

    class Bounded(Composer):
        """Composes nodes, and stops at what makes a document costly, or another one to the next reader."""

        class RefusedError(MarkedYAMLError):
            """The document is larger than any that we read, or has what we do not read."""

        level = values = 0  # `depth` is ruamel's own

        def compose_document(self) -> Any:
            event = self.parser.peek_event()
            if event.tags or event.version not in (None, (1, 2)):  # YAML 1.1 has other numbers, with slow readers
                raise self._refused(event, "directives are", "remove the line that begins with %")
            return super().compose_document()

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.values += 1
            self.level += 1
            event = self.parser.peek_event()
            if isinstance(event, AliasEvent):
                raise self._refused(event, "aliases are", "write the value out where the alias `*…` is")
            if event.tag is not None:
                raise self._refused(event, "tags are", "write the value without the `!…` before it")
            if parent is not None and index is None and not isinstance(event, ScalarEvent):
                raise self._refused(event, "keys that are lists or have keys are", "write the key as one word")
            if self.level > MAX_DEPTH:
                raise self._refused(event, f"more than {MAX_DEPTH} levels are", "nest it less")
            if self.values > MAX_VALUES:
                raise self._refused(event, f"more than {MAX_VALUES:,} keys and values are", "make it shorter")
            node = super().compose_node(parent, index)
            self.level -= 1
            return node

        def compose_scalar_node(self, anchor: Any) -> Any:
            event = self.parser.peek_event()
            node = super().compose_scalar_node(anchor)
            if node.tag.endswith(":merge"):
                raise self._refused(event, "merge keys are", "write the keys out where `<<` is")
            if len(node.value) > MAX_NUMBER and not node.tag.endswith(":str"):
                raise self._refused(event, f"numbers of more than {MAX_NUMBER} characters are", "write a shorter one")
            if not node.value.isascii():
                node.value.encode()  # half a character (a surrogate) can be written nowhere
            return node

        def _refused(self, event: Any, problem: str, hint: str) -> MarkedYAMLError:
            return self.RefusedError(problem=f"{problem} not taken here", problem_mark=event.start_mark, note=hint)

    return Bounded


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"duplicate key {str(repeated(name for name, _ in pairs))[:100]!r}")
    return found


def _finite(word: str) -> float:
    number = float(word)
    if math.isinf(number):
        _refuse_constant(word[:100])
    return number


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number")


def nearest(word: str, words: Sequence[str]) -> str:
    """The likeliest word that was meant, or an empty string."""
    found = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return found[0] if found else ""


def repeated(names: Iterable[str]) -> str | None:
    """The first of the names that is there more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


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
    message, _, hint = message.partition("; hint: ")
    if form := _FORMS.get(str(detail.get("ctx", {}).get("pattern"))):
        message, hint = f"not {form[0]}", f"write {form[1]}"
    key = ".".join(str(part) for part in path)
    line = _line(tree, path)
    if detail["type"] == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        guess = nearest(str(path[-1]), known)
        hint = f"did you mean `{guess}`?" if guess else f"known keys here: {', '.join(known)}"
        return line, f"unknown key `{key}`", hint
    if detail["type"] == "missing":
        return line, f"`{key}` is missing", f"add `{path[-1]}:`"
    found = "" if isinstance(detail["input"], Mapping) else f" (found {detail['input']!r})"
    said = f"`{key}`: {message[:1].lower()}{message[1:]}{found}"
    return line, said, hint or f"give `{path[-1]}` a value of that kind"


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
    inside = map(_innermost_model, getattr(annotation, "__args__", ()))
    return next((model for model in inside if model is not None), None)
