"""Replaces values in YAML text and leaves every other byte as it was.

Loading a tree and dumping it again would fold lines, and move the comments beside what goes away. So the text
is only read for where each value stands, and the new value is put there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mergeline.manifest.flow import flow, scalar

_COMMENT = re.compile(r"(?:^|(?<=\s))#[^\r\n]*", re.MULTILINE)


class Splice:
    """Edits of one YAML text, gathered by where they stand and made at once."""

    def __init__(self, text: str) -> None:
        from ruamel.yaml import YAML

        self._text = text
        self._root = YAML().compose(text)
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._edits: list[tuple[int, int, str]] = []

    def put(
        self, parent: str, key: str, value: Mapping[str, Any], *, after: str | None, lines: Sequence[Sequence[str]]
    ) -> None:
        """Make `value` the value of `key` in the mapping `parent` of the root.

        Where the same keys are there already, only their values change, in the layout that they have.
        Anything else is written anew, and comments inside it move above the key.

        Args:
            parent: a key of the root whose value is a mapping.
            key: the key to set.
            value: what to set it to.
            after: the sibling below which a new key goes; None puts it first.
            lines: how a new value is broken into lines: the keys of each.
        """
        mapping = _pair(self._root, parent)[1]
        found = _find(mapping, key)
        if found is None:
            self._insert(mapping, key, value, after, lines)
            return
        key_node, node = found
        if isinstance(node.value, list) and node.value:
            self._replace(key_node, node, value, lines)
        else:  # `key:`, `key: null` and `key: {}` say that there is nothing yet
            indent = key_node.start_mark.column + 2
            below = " " * indent + flow(value, lines, indent, self._newline)
            self._fill(mapping, node, flow(value) if mapping.flow_style else below)

    def drop(self, parent: str, key: str) -> None:
        """Take `key` out of the mapping `parent`; comments inside its value stay, where the key was."""
        mapping = _pair(self._root, parent)[1]
        key_node, node = _pair(mapping, key)
        if mapping.flow_style:
            self._edit(node.start_mark.index, self._end(node), "null")
            return
        self._hoist(key_node, node)
        line = self._text.rfind("\n", 0, key_node.start_mark.index) + 1
        end = self._line_end(max(self._end(key_node), self._end(node)))
        self._edit(line, min(end + len(self._newline), len(self._text)), "")

    def merge(self, parent: str, key: str, values: Mapping[str, Any], *, after: str) -> None:
        """Set each of `values` in the mapping at `key` of the mapping `parent`, making it where there is none.

        A value that is there already is written anew in its place; a new one gets a line below the others.
        """
        mapping = _pair(self._root, parent)[1]
        found = _find(mapping, key)
        if found is None or not (isinstance(found[1].value, list) and found[1].value):
            self.put(parent, key, values, after=after, lines=[[name] for name in values])
            return
        inner = found[1]
        indent = " " * _column(inner)
        for name, value in values.items():
            old = _find(inner, name)
            text = flow(value) if inner.flow_style or not isinstance(value, list) else self._items(value, indent)
            if old is not None:
                self._set(*old, text)
            elif inner.flow_style:
                self._insert(inner, name, value, None, ())
            else:
                self._insert_line(inner, f"{name}:{'' if text.startswith(self._newline) else ' '}{text}", "")

    def _items(self, items: Sequence[Any], indent: str) -> str:
        """A sequence: short mappings on one line, longer ones on a line each."""
        if all(isinstance(item, Mapping) and len(item) <= 2 for item in items):
            return flow(list(items))
        return "".join(f"{self._newline}{indent}  - {flow(item)}" for item in items)

    def _set(self, key_node: Any, node: Any, text: str) -> None:
        """Put `text` where the value of a key stands, whatever stands there."""
        colon = self._text.index(":", self._end(key_node)) + 1
        if not isinstance(node.value, list):
            start, end = node.start_mark.index, self._end(node)
            self._edit(*((start, end, text) if end > start else (colon, colon, f" {text}")))
            return
        self._hoist(key_node, node, colon)
        end = self._end(node) if node.value else colon + len(self._text[colon : node.end_mark.index].rstrip())
        self._edit(colon, max(colon, end), text if text.startswith(self._newline) else f" {text}")

    def append(self, parent: str, key: str, item: Mapping[str, Any], *, after: str) -> None:
        """Put `item` at the end of the sequence at `key` in the mapping `parent`, making it where there is none."""
        mapping = _pair(self._root, parent)[1]
        found = _find(mapping, key)
        if found is None:
            if mapping.flow_style:
                self._insert(mapping, key, [item], after, ())
            else:
                self._insert_line(mapping, f"{key}:{self._newline}{' ' * (_column(mapping) + 2)}- {flow(item)}", after)
            return
        key_node, node = found
        if not isinstance(node.value, list) or not node.value:
            below = f"{' ' * (key_node.start_mark.column + 2)}- {flow(item)}"
            self._fill(mapping, node, flow([item]) if mapping.flow_style else below)
        elif node.flow_style:
            self._edit(self._end(node.value[-1]), self._end(node.value[-1]), f", {flow(item)}")
        else:
            position = self._line_end(self._end(node.value[-1]))
            self._edit(position, position, f"{self._newline}{' ' * node.start_mark.column}- {flow(item)}")

    def remove(self, parent: str, key: str, indices: Sequence[int]) -> None:
        """Take the items at `indices` out of the sequence at `key` in the mapping `parent`."""
        key_node, node = _pair(_pair(self._root, parent)[1], key)
        items, left = node.value, [i for i in range(len(node.value)) if i not in indices]
        if node.flow_style:
            kept = [self._text[items[i].start_mark.index : self._end(items[i])] for i in left]
            self._edit(node.start_mark.index, self._end(node), f"[{', '.join(kept)}]")
            return
        for i in indices:
            start = self._text.rfind("\n", 0, items[i].start_mark.index) + 1
            end = self._line_end(self._end(items[i]))
            self._edit(start, min(end + len(self._newline), len(self._text)), "")
        if not left:
            colon = self._text.index(":", self._end(key_node)) + 1
            self._edit(colon, colon, " []")

    def text(self) -> str:
        """The text with all edits made."""
        result = self._text
        for start, end, new in sorted(self._edits, key=lambda edit: edit[:2], reverse=True):
            result = result[:start] + new + result[end:]
        return result

    def _edit(self, start: int, end: int, new: str) -> None:
        self._edits.append((start, end, new))

    def _replace(self, key_node: Any, node: Any, value: Any, lines: Sequence[Sequence[str]] = ()) -> None:
        start, end = node.start_mark.index, self._end(node)
        children = {child.value: (child, grandchild) for child, grandchild in node.value} if _is_mapping(node) else {}
        if isinstance(value, Mapping) and children.keys() == value.keys() and value:
            for name, (child, grandchild) in children.items():
                self._replace(child, grandchild, value[name])
        elif isinstance(value, Mapping):
            own_line = node.start_mark.line > key_node.start_mark.line
            indent = node.start_mark.column if own_line else key_node.start_mark.column + 2
            self._edit(start, end, flow(value, lines, indent, self._newline))
            self._hoist(key_node, node)
        else:
            self._edit(start, end, scalar(value, getattr(node, "style", None)))

    def _fill(self, mapping: Any, node: Any, new: str) -> None:
        """Put a value where there was none: on lines below the key, or in its place inside braces."""
        start = min(node.start_mark.index, self._end(node))
        while self._text[start - 1] == " ":
            start -= 1
        end = max(start, self._end(node))
        if mapping.flow_style:
            self._edit(start, end, f" {new}")
            return
        self._edit(start, end, "")
        line_end = self._line_end(end)
        self._edit(line_end, line_end, f"{self._newline}{new}")

    def _insert(self, mapping: Any, key: str, value: Any, after: str | None, lines: Sequence[Sequence[str]]) -> None:
        if mapping.flow_style:
            entry = f"{scalar(key)}: {flow(value)}"
            if mapping.value:
                position = self._end(mapping.value[-1][1])
                self._edit(position, position, f", {entry}")
            else:
                self._edit(mapping.start_mark.index + 1, mapping.start_mark.index + 1, entry)
            return
        indent = _column(mapping) + 2
        self._insert_line(
            mapping, f"{key}:{self._newline}{' ' * indent}{flow(value, lines, indent, self._newline)}", after
        )

    def _insert_line(self, mapping: Any, entry: str, after: str | None) -> None:
        """Put `entry` on lines of its own in a block mapping: below `after`, or first."""
        indent = " " * _column(mapping)
        sibling = _find(mapping, after) if after else None
        if sibling is None and after is None:
            first = self._text.rfind("\n", 0, mapping.start_mark.index) + 1
            self._edit(first, first, f"{indent}{entry}{self._newline}")
            return
        below = sibling or mapping.value[-1]
        position = self._line_end(max(self._end(below[0]), self._end(below[1])))
        self._edit(position, position, f"{self._newline}{indent}{entry}")

    def _hoist(self, key_node: Any, node: Any, start: int | None = None) -> None:
        """Move the comments inside `node`, and those from `start` to it, to lines above its key."""
        before = "" if start is None else self._text[start : node.start_mark.index]
        comments = [comment for gap in (before, *self._gaps(node)) for comment in _COMMENT.findall(gap)]
        if comments:
            line = self._text.rfind("\n", 0, key_node.start_mark.index) + 1
            indent = " " * key_node.start_mark.column
            self._edit(line, line, "".join(f"{indent}{comment}{self._newline}" for comment in comments))

    def _gaps(self, node: Any) -> Iterator[str]:
        """The text of `node` between its scalars: punctuation, space and comments."""
        position = node.start_mark.index
        for leaf in _leaves(node):
            yield self._text[position : leaf.start_mark.index]
            position = self._end(leaf)
        yield self._text[position : self._end(node)]

    def _end(self, node: Any) -> int:
        """Where the last character of `node` ends; ruamel ends a block where the next key begins."""
        if isinstance(node.value, list) and not node.flow_style:
            last = node.value[-1]
            return max(self._end(part) for part in last) if isinstance(last, tuple) else self._end(last)
        start: int = node.start_mark.index
        return start + len(self._text[start : node.end_mark.index].rstrip())

    def _line_end(self, position: int) -> int:
        end = self._text.find("\n", position)
        if end < 0:
            return len(self._text)
        return end - 1 if self._text[end - 1] == "\r" else end


def _pair(mapping: Any, key: str) -> tuple[Any, Any]:
    found = _find(mapping, key)
    if found is None:
        raise KeyError(key)
    return found


def _find(mapping: Any, key: str) -> tuple[Any, Any] | None:
    return next(((name, node) for name, node in mapping.value if name.value == key), None)


def _column(mapping: Any) -> int:
    column: int = mapping.value[0][0].start_mark.column
    return column


def _is_mapping(node: Any) -> bool:
    return isinstance(node.value, list) and all(isinstance(part, tuple) for part in node.value)


def _leaves(node: Any) -> Iterator[Any]:
    if not isinstance(node.value, list):
        yield node
        return
    for part in node.value:
        for child in part if isinstance(part, tuple) else (part,):
            yield from _leaves(child)
