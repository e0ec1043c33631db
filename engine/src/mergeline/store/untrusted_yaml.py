"""Reads YAML that a branch's own code may have written, within bounds on depth and without aliases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergeline.errors import DocumentError

_DEPTH = 40  # dvc.lock nests params about ten deep


def read_untrusted(text: str, where: str) -> dict[str, Any]:
    """The keys and values of `text` as plain values.

    An alias is refused: a few lines of them describe a document that no memory holds.

    Raises:
        DocumentError: it is not YAML, or not a mapping, nests too deep, or has aliases.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _DEPTH:
                raise DocumentError("aliases and deep nesting are not taken here", where=where, hint="write it plainly")
        tree = yaml.load(text, Loader=loader)  # noqa: S506 - both loaders are the safe ones
    except (yaml.YAMLError, ValueError, RecursionError) as cause:
        raise DocumentError(
            f"not valid YAML: {str(cause).splitlines()[0][:200]}", where=where, hint="hint the file, and push again"
        ) from None
    if not isinstance(tree, Mapping):
        raise DocumentError("expected keys and values", where=where, hint="hint the file, and push again")
    return dict(tree)
