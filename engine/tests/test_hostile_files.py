"""Every file that a verb or the server reads, with whatever a stranger or a crash may leave in it.

It is read, or refused with an error of ours: nothing else is raised, and nothing hangs or fills the memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mergeline.dataset.split import read_split
from mergeline.documents import parse_json
from mergeline.errors import MergelineError
from mergeline.evaluate.results import read_evaluation
from mergeline.github.actions import read_event
from mergeline.journal.compactor import KEEPER_STATUS, KeeperStatus, read_keeper_status
from mergeline.journal.sync import SYNC_STATUS, SYNCED, SyncStatus, read_status, read_synced
from mergeline.manifest.schema import read_manifest
from mergeline.model.environment import read_environment
from mergeline.params import read_params
from mergeline.retrain.pull_request import read_watch
from mergeline.serve.rollout.state import STATE_FILE, StateStore
from mergeline.store.dvc_lock import locked_model

MEGABYTE = b"x" * 1_000_000
YAML = {
    "a Python object": b"a: !!python/object/apply:os.system [touch /tmp/was-here]\n",
    "a Python name": b"a: !!python/name:os.system\n",
    "a tag of a set": b"stages: !!set {a, b}\n",
    "merge keys": b"base: &base {a: 1}\nspec:\n  <<: *base\n",
    "a merge of a list": b"spec: {<<: [{a: 1}, {b: 2}]}\n",
    "an anchor that nobody uses": b"spec: &spec {}\n",
    "an alias of itself": b"a: &a [*a]\n",
    "a text of a megabyte": b"a: " + MEGABYTE + b"\n",
    "a key of a megabyte": MEGABYTE + b": a\n",
    "a block of a megabyte": b"a: |\n  " + MEGABYTE + b"\n",
    "a complex key": b"? {a: [1, 2]}\n: b\n",
    "deep flow": b"a: " + b"[{a: " * 50_000,
    "deep blocks": b"".join(b" " * depth + b"- \n" for depth in range(500)),
    "a YAML of the future": b"%YAML 1.3\n---\na: 1\n",
    "keys of equal hashes": b"".join(b"%d: 1\n" % (1 + number * (2**61 - 1)) for number in range(3_000)),
    "a text where a number is asked": b"split: {holdout: '" + b"x" * 400_000 + b"'}\nserve: 1\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "tabs": b"a:\n\t- b\n",
}
JSON = {
    "deep arrays": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "a deep value in a known place": b'{"outcome": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a text of a megabyte": b'{"a": "' + MEGABYTE + b'"}',
    "a number of a megabyte": b'{"size": ' + b"9" * 1_000_000 + b"}",
    "a number that is none": b'{"a": NaN, "b": 1e999}',
    "half a character": rb'{"outcome": "\ud800", "headline": "\udfff"}',
    "a key given twice": b'{"outcome": "steady", "outcome": "drift"}',
    "a list": b"[1, 2]",
    "a number": b"7",
}
BYTES = {
    "nothing": b"",
    "NUL": b"a: \0\n",
    "NUL alone": b"\0" * 10_000,
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "Latin-1": "a: Zürich\n".encode("latin-1"),
    "UTF-16": "a: 1\n".encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbfa: 1\n",
    "a mark in the middle": b"a: 1\n\xef\xbb\xbfb: 2\n",
    "carriage returns": b"a: 1\r\nb:\r\n  - 2\r\n",
    "carriage returns alone": b"a: 1\rb: 2\r",
    "control characters": bytes(range(1, 32)),
    "a separator of lines": "a: 1\u2028b: 2\x85c: 3\n".encode(),
}


def state_of(folder: Path) -> Any:
    store = StateStore(folder)
    store.follow()
    assert store.state is None
    assert bool(store.unreadable) is (folder / STATE_FILE).exists()


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "manifest": ("manifest.yaml", lambda folder: read_manifest(folder / "manifest.yaml")),
    "params": ("params.yaml", lambda folder: read_params(folder / "params.yaml")),
    "lock": ("dvc.lock", locked_model),
    "split": ("split.json", lambda folder: read_split(folder / "split.json")),
    "evaluation": ("evaluation.json", read_evaluation),
    "environment": ("environment.json", lambda folder: read_environment(folder / "environment.json")),
    "watch": ("watch.json", lambda folder: read_watch(folder / "watch.json")),
    "event": ("event.json", lambda folder: read_event(folder / "event.json")),
    "rollout": (STATE_FILE, state_of),
}
SIDECARS: dict[str, tuple[str, Callable[[Path], Any], Any]] = {
    "keeper": (KEEPER_STATUS, read_keeper_status, KeeperStatus()),
    "sync": (SYNC_STATUS, read_status, SyncStatus()),
    "synced": (SYNCED, read_synced, {}),
}
HOSTILE = [*YAML.items(), *JSON.items(), *BYTES.items()]


@pytest.mark.parametrize("reader", READERS)
def test_a_hostile_file_is_read_or_refused(tmp_path, reader):
    name, read = READERS[reader]
    for what, content in HOSTILE:
        (tmp_path / name).write_bytes(content)
        began, said = time.process_time(), ""
        try:
            read(tmp_path)
        except MergelineError as error:
            said = str(error)
        except Exception as error:
            raise AssertionError(f"{what}: {error!r:.300}") from error
        assert len(said) < 5_000, what
        assert time.process_time() - began < 3, what


@pytest.mark.parametrize("sidecar", SIDECARS)
def test_a_hostile_file_beside_the_journal_counts_as_none(tmp_path, sidecar):
    name, read, none = SIDECARS[sidecar]
    for what, content in HOSTILE:
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path) == none, what


@pytest.mark.parametrize("reader", [*READERS, *SIDECARS])
@pytest.mark.parametrize("kind", ["folder", "FIFO", "link to itself"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, reader, kind):
    name, read = {**READERS, **SIDECARS}[reader][:2]
    place = tmp_path / name
    {
        "folder": place.mkdir,
        "FIFO": lambda: os.mkfifo(place),
        "link to itself": lambda: place.symlink_to(place),
    }[kind]()
    if reader in SIDECARS:
        assert read(tmp_path) == SIDECARS[reader][2]
    elif reader == "rollout":
        store = StateStore(tmp_path)
        store.follow()
        assert (store.state, bool(store.unreadable)) == (None, True)
    else:
        with pytest.raises(MergelineError):
            read(tmp_path)


@pytest.mark.parametrize("what", ["a Python object", "a Python name"])
def test_no_tag_makes_an_object(tmp_path, what):
    (tmp_path / "params.yaml").write_bytes(YAML[what])
    with pytest.raises(MergelineError, match="tags are not taken here"):
        read_params(tmp_path / "params.yaml")


def test_deep_json_is_refused_whichever_way_it_is_read():
    with pytest.raises(MergelineError):
        parse_json(JSON["deep arrays"], "x.json")
