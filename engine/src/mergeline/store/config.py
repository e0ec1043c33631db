"""Reads DVC's configuration: which store is the default one, and where the cache is."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from mergeline.documents import read_text
from mergeline.errors import DocumentError, StoreError
from mergeline.home import Home


def configured_url(root: Path) -> str:
    """The address of the default remote as it is written: a relative one starts from the folder of its file.

    Raises:
        StoreError: no remote is configured, or the configuration cannot be read.
    """
    return _remote(root)[0]


def resolved_url(root: Path) -> str:
    """The address of the default remote, a folder as its whole path.

    Raises:
        StoreError: as `configured_url`.
    """
    url, folder = _remote(root)
    return url if "://" in url else os.path.normpath(folder / url)


def configured_cache(root: Path) -> Path:
    """The folder of DVC's cache.

    Raises:
        StoreError: the configuration cannot be read.
    """
    folder, name = _value(root, "cache", "dir") or (_folder(root), "cache")
    return Path(os.path.normpath(folder / name))


def share_config(root: Path, worktree: Path) -> None:
    """Let a second work tree of a clone use the clone's cache, its store and its own settings.

    A store inside the repository stays the work tree's own, as it is committed.

    Raises:
        StoreError: as `configured_url`.
    """
    file = worktree / ".dvc" / "config.local"
    config = _read(_folder(root) / "config.local")
    (url, folder), remote = _remote(root), f'remote "{_value(root, "core", "remote")[1]}"'  # type: ignore[index]
    values = {("cache", "dir"): str(configured_cache(root))}
    if "://" not in url and not Path(os.path.normpath(folder / url)).is_relative_to(Home.at(root).root):
        values[remote, "url"] = resolved_url(root)
    for (section, key), value in values.items():
        name = next((name for name in (section, f"'{section}'") if config.has_section(name)), f"'{section}'")
        if not config.has_section(name):
            config.add_section(name)
        config.set(name, key, f'"{value}"')
    file.parent.mkdir(exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        config.write(stream)


def _remote(root: Path) -> tuple[str, Path]:
    """The default remote's address, and the folder that it is relative to."""
    _, remote = _value(root, "core", "remote") or (None, "")
    found = _value(root, f'remote "{remote}"', "url")
    if found is None:
        raise StoreError(
            "no default remote is configured",
            where=str(_folder(root) / "config"),
            hint="dvc remote add --default store ../store",
        )
    return found[1], found[0]


def _value(root: Path, section: str, key: str) -> tuple[Path, str] | None:
    """A value, and the folder of the file that says it: the last file that does wins, as in DVC."""
    found = None
    for file in _files(root):
        config = _read(file)
        for name in (section, f"'{section}'"):
            value = config.get(name, key, fallback="").strip("\"'")
            found = (file.parent, value) if value else found
    return found


def _read(file: Path) -> configparser.ConfigParser:
    """A file of DVC's configuration; one that is not there says nothing."""
    config = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#",))
    try:
        text = read_text(file) if file.exists() else ""
        config.read_string("\n".join(line.strip() for line in text.splitlines()))
    except (DocumentError, configparser.Error) as cause:
        words = str(cause).splitlines()[0]
        raise StoreError(f"the file cannot be read: {words}", where=str(file), hint="dvc config --list") from None
    return config


def _files(root: Path) -> Iterator[Path]:
    """DVC's configuration files: the machine's, the person's, the repository's, the clone's; later ones win."""
    if sys.platform == "darwin":
        system = Path("/Library/Application Support")
        own = Path.home() / "Library" / "Application Support"
    else:
        system = Path((os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)[0])
        own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    yield Path(os.environ.get("DVC_SYSTEM_CONFIG_DIR") or system / "dvc", "config")
    yield Path(os.environ.get("DVC_GLOBAL_CONFIG_DIR") or own / "dvc", "config")
    yield _folder(root) / "config"
    yield _folder(root) / "config.local"


def _folder(root: Path) -> Path:
    """DVC's own folder, which every home of a repository shares."""
    return Home.at(root).root / ".dvc"
