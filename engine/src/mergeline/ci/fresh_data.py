"""Checks fresh data that came along with a proposal, and says what the data's `.dvc` file must hold then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mergeline.ci.bundle import LOCK, PROPOSAL_FILE
from mergeline.documents import parse_plain
from mergeline.errors import BundleError
from mergeline.manifest.schema import Release
from mergeline.store.objects import Read, listing, object_path

MAX_NEW = 100
"""Partitions that one retraining may bring: it makes two."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}\.parquet")
_AGAIN = "run watch.yml again: the retraining is made anew"


@dataclass(frozen=True)
class DataFile:
    """The base branch's `.dvc` file of the data: the data's path, and the file's text."""

    path: str
    text: str


@dataclass(frozen=True)
class FreshData:
    """The data with fresh rows: the digest, the text of the `.dvc` file, and the objects behind it."""

    path: str
    md5: str
    text: str
    objects: tuple[str, ...]


def fresh_data(digest: str, base: DataFile | None, read: Read, sizes: Mapping[str, int]) -> FreshData:
    """The data that a proposal would make of the base branch's.

    Partitions may come, and all of them after those that are there; none may change or go. The file's text is worked
    out from the base's: nothing of it is taken from the proposal but the digest.

    Args:
        digest: of the data folder, as `md5:….dir`.
        base: the base branch's; None where nothing may be brought.
        read: gives an object of the proposal or of the store.
        sizes: of the proposal's files, in bytes.

    Raises:
        BundleError: it changes more than that.
        StoreError: a listing is not there, or is not one.
    """
    md5 = digest.removeprefix("md5:")
    if base is None:
        raise _refusal("fresh data come on a branch of the automation's own alone", PROPOSAL_FILE)
    outs = parse_plain(base.text, f"{base.path}.dvc").get("outs")
    old = outs[0] if isinstance(outs, list) and len(outs) == 1 and isinstance(outs[0], dict) else {}
    if old.get("path") != base.path.rsplit("/", 1)[-1] or not str(old.get("md5", "")).endswith(".dir"):
        raise _refusal(f"{base.path}.dvc does not name one folder", f"{base.path}.dvc")
    before = dict(listing(object_path(str(old["md5"])), read))
    after = dict(listing(object_path(md5), read))
    new = sorted(after.keys() - before.keys())
    changed = sorted(path for path, found in before.items() if after.get(path) != found)
    newest = max((path.rsplit(".", 1)[0] for path in before), default="")
    if changed:
        raise _refusal(f"it changes or takes away {changed[0][:200]}", base.path)
    if not new or len(new) > MAX_NEW:
        raise _refusal(f"it brings {len(new)} partitions", base.path)
    for path in new:
        if not _NAME.fullmatch(path) or path.removesuffix(".parquet") <= newest:
            raise _refusal(f"{path[:200]!r} is no partition that comes after {newest}", base.path)
    brought = [f"objects/{object_path(after[path])}" for path in new]
    if not all(name in sizes for name in brought):
        raise _refusal("a new partition is not in the proposal", base.path)
    size = int(old.get("size", 0)) + sum(sizes[name] for name in brought)
    text = _edited(base, {"md5": md5, "size": str(size), "nfiles": str(len(after))})
    return FreshData(base.path, md5, text, (object_path(md5), *map(object_path, after.values())))


def require_trained_on(data: FreshData, stages: Mapping[str, Mapping[str, Any]], release: Release) -> None:
    """Check that the lock and the model's lineage name these data.

    Raises:
        BundleError: one of them names others.
    """
    for name, stage in stages.items():
        deps = stage.get("deps") or ()
        found = [dep.get("md5") for dep in deps if isinstance(dep, Mapping) and dep.get("path") == data.path]
        if any(md5 != data.md5 for md5 in found):
            raise _refusal(f"stage {name} was run on other data", LOCK)
    if release.lineage.data != f"md5:{data.md5}":
        raise _refusal(f"the model was trained on {release.lineage.data}", LOCK)


def _edited(base: DataFile, values: Mapping[str, str]) -> str:
    """The base's text with other values of some keys of its one output."""
    text = base.text
    for key, value in values.items():
        text, count = re.subn(rf"^(- |  ){key}: .*$", rf"\g<1>{key}: {value}", text, flags=re.MULTILINE)
        if count != 1 and key != "size":
            raise _refusal(f"{base.path}.dvc is laid out in another way than DVC does", f"{base.path}.dvc")
    return text


def _refusal(what: str, where: str) -> BundleError:
    return BundleError(f"the proposal is refused: {what}", where=where, hint=_AGAIN)
