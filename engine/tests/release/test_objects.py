"""Fetching the folder that a listing names, whoever wrote the listing."""

import hashlib
import json

import pytest

from mergeline.errors import StoreError
from mergeline.store import objects
from mergeline.store.objects import fetch_folder
from mergeline.store.reader import object_path

CONTENT = b"x" * 1000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
SOURCE = "files/md5/ab/" + "c" * 30 + ".dir"


def store(*paths):
    entries = [{"relpath": path, "md5": MD5} for path in paths]
    return {SOURCE: json.dumps(entries).encode(), object_path(MD5): CONTENT}.get


def test_files_that_share_their_bytes_are_all_written(tmp_path):
    fetch_folder(SOURCE, store("a", "b/c"), tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("a", "b/c")] == [CONTENT, CONTENT]


@pytest.mark.parametrize(
    "paths", [[f"{number}" for number in range(100)], [f"{number}/{'a/' * 20}b" for number in range(10)]]
)
def test_one_object_under_many_names_does_not_fill_the_disk(tmp_path, monkeypatch, paths):
    monkeypatch.setattr(objects, "MAX_BYTES", 100_000)
    with pytest.raises(StoreError, match="more than 100,000 bytes"):
        fetch_folder(SOURCE, store(*paths), tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 100_000
