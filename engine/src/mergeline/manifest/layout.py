"""The one layout of what machines write in the manifest, put into a text of which every other line stays as it is.

Loading a tree and dumping it again would fold lines and move comments. So the text is read for the lines of each key,
and the lines of a key that changes are written anew. Comments inside them move above the key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from mergeline.documents import yaml_reader

# Four lines a model: the diff of a promotion then reads as a new model put on top and the oldest one gone,
# ten lines in all, since the lines of the model between them stay as they are.
_LINES = (("version", "digest"), ("source", "signature"), ("lineage",), ("evidence",))
_WIDTH = 100  # of a list in one line

_COMMENT = re.compile(r"(?:^|(?<=\s))#[^\r\n]*", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./:@+-]*")
_NUMBER_LIKE = re.compile(
    r"[0-9._]+([eE][-+]?[0-9]+)?"
    r"|0[xob][0-9A-Fa-f_]+"
    r"|[0-9][0-9_]*(:[0-9.]+)+"  # minutes and seconds, in YAML 1.1
    r"|[0-9]{4}-.*"  # a date
)
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", ".nan", ".inf"}
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def has_block(text: str, *path: str) -> bool:
    """Whether there is a mapping at `path` with a line for each key."""
    node = _at(_composed(text), path)
    return _is_mapping(node) and bool(node.value) and not node.flow_style


def put(
    text: str, path: Sequence[str], values: Mapping[str, Any], order: Sequence[str], drop: Collection[str] = ()
) -> str:
    """The text with other values for some keys of a mapping.

    Args:
        text: YAML.
        path: the keys that lead to the mapping; it must have a line for each key, see `has_block`.
        values: by key.
        order: of the mapping's keys: a new key goes below those before it.
        drop: keys to take out.
    """
    mapping = _at(_composed(text), path)
    pairs = {key.value: (key, node) for key, node in mapping.value}
    newline = "\r\n" if "\r\n" in text else "\n"
    column: int = mapping.value[0][0].start_mark.column
    edits: list[tuple[int, int, str]] = []
    for key in (*values, *drop):
        pair = pairs.get(key)
        if pair is not None:
            start, end, tail, inner = _lines_of(text, *pair)
            lines = [" " * column + comment for comment in inner]
            if key in drop:
                lines += [" " * column + tail.strip()] if tail else []
            else:
                first, *rest = _entry(key, values[key], column)
                lines += [first + _padded(first, tail), *rest]
            edits.append((start, end, newline.join(lines)))
        elif key in values:
            lines = _entry(key, values[key], column)
            above = [pairs[name] for name in order[: order.index(key)] if name in pairs]
            position = max((_lines_of(text, *each)[1] for each in above), default=-1)
            if position >= 0:
                edits.append((position, position, newline + newline.join(lines)))
            else:
                position = text.rfind("\n", 0, mapping.value[0][0].start_mark.index) + 1
                edits.append((position, position, newline.join(lines) + newline))
    for start, end, new in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        gone = not new and end > start
        after = min(len(text), end + len(newline)) if gone else end
        text = text[:start] + new + text[after:]
    return text


def rewritten(text: str, tree: Mapping[str, Any], block: str) -> str:
    """The whole text anew, its comments first: each key of `tree` on a line, and so each key of its mapping `block`."""
    root = _composed(text)
    lines = [comment.strip() for _, comment in _comments_at(text, 0, len(text), root)]
    for key, value in tree.items():
        if key == block:
            lines += [f"{key}:", *(line for name in value for line in _entry(name, value[name], 2))]
        else:
            lines.append(f"{scalar(key)}: {flow(value)}")
    newline = "\r\n" if "\r\n" in text else "\n"
    return newline.join(lines) + newline


def flow(value: Any) -> str:
    """`value` on one line, in flow style."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def scalar(value: Any) -> str:
    """One value as YAML; a text is plain only where YAML 1.1 and 1.2 both read it as the same text."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and not _NUMBER_LIKE.fullmatch(value) and not value.endswith(":")
        if plain and value.lower() not in _WORDS:
            return value
        return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
    if isinstance(value, float):
        digits = repr(value)
        return digits if "." in digits or "e" not in digits else digits.replace("e", ".0e")
    return json.dumps(value)


def _entry(key: str, value: Any, column: int) -> list[str]:
    """The lines of one key: a model in four lines, a list in one line or an item a line."""
    indent = " " * column
    if isinstance(value, Mapping) and "digest" in value:
        groups = [{name: value[name] for name in group if name in value} for group in _LINES]
        first, *others = [flow(group)[1:-1] for group in groups if group]
        rows = [f"{indent}  {{{first}", *(f"{indent}   {row}" for row in others)]
        return [f"{indent}{key}:", *(f"{row}," for row in rows[:-1]), f"{rows[-1]}}}"]
    if isinstance(value, Mapping):
        return [f"{indent}{key}:", *(line for name in value for line in _entry(name, value[name], column + 2))]
    line = f"{indent}{scalar(key)}: {flow(value)}"
    if isinstance(value, list | tuple) and len(line) > _WIDTH:
        return [f"{indent}{key}:", *(f"{indent}  - {flow(item)}" for item in value)]
    return [line]


def _padded(line: str, tail: str) -> str:
    """The comment at the end of a key's line, in the column where it was, if the new line is not too long."""
    comment = tail.strip()
    return " " * max(2, len(tail) - len(comment) - len(line)) + comment if comment else ""


def _lines_of(text: str, key: Any, node: Any) -> tuple[int, int, str, list[str]]:
    """Where the lines of a key begin and end, the comment on the first one, indented as it is, and those below."""
    start = text.rfind("\n", 0, key.start_mark.index) + 1
    end = _line_end(text, max(_end(text, key), _end(text, node)))
    first_end = _line_end(text, _end(text, key))
    tail, below = "", []
    for position, comment in _comments_at(text, start, end, key, node):
        if position < first_end:
            tail = " " * (position - start) + comment
        else:
            below.append(comment)
    return start, end, tail, below


def _comments_at(text: str, start: int, end: int, *nodes: Any) -> Iterator[tuple[int, str]]:
    """The comments between two positions, outside the scalars of the nodes there, and where each begins."""
    position = start
    leaves = [leaf for node in nodes for leaf in _leaves(node)]
    for leaf in [*leaves, None]:
        stop = end if leaf is None else leaf.start_mark.index
        if leaf is not None and leaf.style in ("|", ">"):  # behind its mark a block may have a comment
            stop = _line_end(text, stop)
        for found in _COMMENT.finditer(text, position, stop):
            yield found.start(), found[0].rstrip()
        if leaf is not None:
            position = max(stop, _end(text, leaf))


@lru_cache(maxsize=4)
def _composed(text: str) -> Any:
    """The nodes of a text, which nobody changes: each edit asks for those of the same one several times."""
    return yaml_reader().compose(text)


def _at(node: Any, path: Sequence[str]) -> Any:
    for name in path:
        pairs = node.value if _is_mapping(node) else []
        node = next((value for key, value in pairs if key.value == name), None)
    return node


def _is_mapping(node: Any) -> bool:
    return isinstance(getattr(node, "value", None), list) and all(isinstance(part, tuple) for part in node.value)


def _leaves(node: Any) -> Iterator[Any]:
    if not isinstance(node.value, list):
        yield node
        return
    for part in node.value:
        for child in part if isinstance(part, tuple) else (part,):
            yield from _leaves(child)


def _end(text: str, node: Any) -> int:
    """Where the last character of `node` ends; ruamel ends a block where the next key begins."""
    if isinstance(node.value, list) and not node.flow_style and node.value:
        last = node.value[-1]
        return max(_end(text, part) for part in last) if isinstance(last, tuple) else _end(text, last)
    start: int = node.start_mark.index
    return start + len(text[start : node.end_mark.index].rstrip())


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    if end < 0:
        return len(text)
    return end - 1 if text[end - 1] == "\r" else end
