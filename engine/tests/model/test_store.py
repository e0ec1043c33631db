"""The store: objects by digest, checked on every read."""

import hashlib
import json
import os

import pytest

from mergeline.errors import DigestError, StoreError
from mergeline.store.reader import Store, configured_store, object_path


def put(store, content, suffix=""):
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
    path = store / object_path(md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def put_folder(store, files):
    entries = [{"md5": put(store, content), "relpath": name} for name, content in sorted(files.items())]
    return object_path(put(store, json.dumps(entries).encode(), ".dir"))


class TestFetching:
    def test_a_folder_comes_whole(self, tmp_path):
        source = put_folder(tmp_path / "store", {"a": b"1", "sub/b": b"2"})
        Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model")
        assert (tmp_path / "model" / "sub" / "b").read_bytes() == b"2"
        assert (tmp_path / "model" / "a").read_bytes() == b"1"

    def test_a_flipped_bit_is_refused_and_nothing_is_written(self, tmp_path):
        source = put_folder(tmp_path / "store", {"a": b"1", "b": b"2"})
        damaged = tmp_path / "store" / object_path(hashlib.md5(b"2", usedforsecurity=False).hexdigest())
        damaged.write_bytes(b"3")
        store = Store(str(tmp_path / "store"))
        with pytest.raises(DigestError, match="its name promises"):
            store.fetch_folder(source, tmp_path / "model")
        assert sorted(os.listdir(tmp_path)) == ["store"]
        assert store.missing(source) == (damaged.relative_to(tmp_path / "store").as_posix(),)

    def test_a_missing_object_says_how_to_get_it(self, tmp_path):
        source = put_folder(tmp_path / "store", {"a": b"1"})
        (tmp_path / "store" / object_path(hashlib.md5(b"1", usedforsecurity=False).hexdigest())).unlink()
        with pytest.raises(StoreError, match="dvc push"):
            Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model")

    def test_a_store_that_is_not_there_is_told(self, tmp_path):
        source = "files/md5/ab/" + "0" * 30 + ".dir"
        with pytest.raises(StoreError, match="not in the store"):
            Store(str(tmp_path / "nowhere")).fetch_folder(source, tmp_path / "model")
        assert Store(str(tmp_path / "nowhere")).missing(source) == (source,)

    @pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
    def test_a_listing_that_leaves_the_folder_is_refused(self, tmp_path, name):
        source = put_folder(tmp_path / "store", {name: b"1"})
        with pytest.raises(StoreError, match="outside the folder"):
            Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model")

    def test_an_older_folder_is_replaced(self, tmp_path):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "old").write_text("")
        source = put_folder(tmp_path / "store", {"a": b"1"})
        Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model")
        assert os.listdir(tmp_path / "model") == ["a"]


class TestConfiguration:
    def test_a_relative_remote_is_relative_to_the_dvc_folder(self, tmp_path):
        (tmp_path / ".dvc").mkdir()
        text = "[core]\n    remote = store\n['remote \"store\"']\n    url = ../store\n"
        (tmp_path / ".dvc" / "config").write_text(text)
        assert configured_store(tmp_path).url == str(tmp_path / "store")

    def test_the_local_configuration_wins(self, tmp_path):
        (tmp_path / ".dvc").mkdir()
        (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = store\n")
        (tmp_path / ".dvc" / "config.local").write_text("['remote \"store\"']\n    url = s3://bucket/models\n")
        assert configured_store(tmp_path).url == "s3://bucket/models"

    def test_no_remote_says_how_to_add_one(self, tmp_path):
        with pytest.raises(StoreError, match="dvc remote add"):
            configured_store(tmp_path)
