"""The store: objects by digest, checked on every read."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from mergeline.errors import DigestError, StoreError
from mergeline.store.config import configured_cache, configured_url, resolved_url, share_config
from mergeline.store.objects import Store, configured_store, object_path


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
        with pytest.raises(StoreError, match="no file of one folder"):
            Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model")

    @pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("x" * 300,), ("a/" * 600 + "b",), ("a\0b",), ("",)])
    def test_a_listing_that_no_file_system_takes_is_refused(self, tmp_path, names):
        source = put_folder(tmp_path / "store", dict.fromkeys(names, b"1"))
        with pytest.raises(StoreError, match="the listing names"):
            Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model")
        assert sorted(os.listdir(tmp_path)) == ["store"]

    @pytest.mark.parametrize("content", [b"[", b"{}x", b"[1]", b'[{"relpath": "a"}]', b"[" * 100_000])
    def test_a_listing_that_is_none_is_refused(self, tmp_path, content):
        source = object_path(put(tmp_path / "store", content, ".dir"))
        with pytest.raises(StoreError, match="not a list of files"):
            Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model")

    def test_a_damaged_listing_is_refused(self, tmp_path):
        source = put_folder(tmp_path / "store", {"a": b"1"})
        (tmp_path / "store" / source).write_bytes(b"[]")
        with pytest.raises(DigestError, match="its name promises"):
            Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model")

    def test_a_fifo_in_the_store_keeps_nobody_waiting(self, tmp_path):
        source = put_folder(tmp_path / "store", {"a": b"1"})
        (tmp_path / "store" / source).unlink()
        os.mkfifo(tmp_path / "store" / source)
        with pytest.raises(StoreError, match="is not a file"):
            Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model")

    @pytest.mark.parametrize(
        "paths", [[f"{number}" for number in range(100)], [f"{number}/{'a/' * 20}b" for number in range(10)]]
    )
    def test_one_object_under_many_names_does_not_fill_the_disk(self, tmp_path, paths):
        source = put_folder(tmp_path / "store", dict.fromkeys(paths, b"x" * 1000))
        with pytest.raises(StoreError, match="more than 100,000 bytes"):
            Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model", max_bytes=100_000)
        assert sorted(os.listdir(tmp_path)) == ["store"]

    def test_an_older_folder_is_replaced(self, tmp_path):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "old").write_text("")
        source = put_folder(tmp_path / "store", {"a": b"1"})
        Store(str(tmp_path / "store")).fetch_folder(source, tmp_path / "model")
        assert os.listdir(tmp_path / "model") == ["a"]


class TestPutting:
    def test_an_object_is_put_once_and_read_back(self, tmp_path):
        store = Store(str(tmp_path / "store"))
        (tmp_path / "file").write_bytes(b"1")
        assert (store.has("files/md5/ab/c"), store.read("files/md5/ab/c")) == (False, None)
        store.put("files/md5/ab/c", tmp_path / "file")
        (tmp_path / "file").write_bytes(b"2")
        store.put("files/md5/ab/c", tmp_path / "file")
        assert (store.has("files/md5/ab/c"), store.read("files/md5/ab/c")) == (True, b"1")
        assert os.listdir(tmp_path / "store" / "files" / "md5" / "ab") == ["c"]

    def test_the_server_reads_a_store_without_importing_dvc(self, tmp_path):
        source = put_folder(tmp_path / "store", {"a": b"1"})
        code = (
            "import sys; from pathlib import Path; from mergeline.store.objects import Store; "
            f"Store({str(tmp_path / 'store')!r}).fetch_folder({source!r}, Path({str(tmp_path / 'model')!r})); "
            "sys.exit(any(name in sys.modules for name in ('dvc', 'dvc_data', 'sklearn', 'pandas')))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(autouse=True)
def no_other_configuration(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "system"))


class TestConfiguration:
    def test_the_last_of_four_files_wins_as_in_dvc(self, tmp_path):
        seen = []
        for folder, name in (("system", "config"), ("global", "config"), (".dvc", "config"), (".dvc", "config.local")):
            (tmp_path / folder).mkdir(exist_ok=True)
            text = f"[core]\n    remote = r\n['remote \"r\"']\n    url = ../{folder}-{name}  # why\n"
            (tmp_path / folder / name).write_text(text + "[cache]\n    dir = elsewhere\n")
            seen.append((configured_store(tmp_path).url, configured_cache(tmp_path)))
        assert seen == [
            (str(tmp_path / "system-config"), tmp_path / "system" / "elsewhere"),
            (str(tmp_path / "global-config"), tmp_path / "global" / "elsewhere"),
            (str(tmp_path / ".dvc-config"), tmp_path / ".dvc" / "elsewhere"),
            (str(tmp_path / ".dvc-config.local"), tmp_path / ".dvc" / "elsewhere"),
        ]

    def test_what_is_read_is_what_dvc_reads(self, tmp_path):
        from dvc.config import Config

        (tmp_path / ".dvc").mkdir()
        text = "[core]\nRemote = 'r'  # ours\n['remote \"r\"']\nurl = \"../my store\"\n"
        (tmp_path / ".dvc" / "config").write_text(text)
        (tmp_path / ".dvc" / "config.local").write_text("[cache]\n    dir = ../c\n    type = symlink\n")
        config = Config(str(tmp_path / ".dvc"))
        assert configured_url(tmp_path) == "../my store"
        assert configured_store(tmp_path).url == os.path.normpath(config["remote"]["r"]["url"])
        assert str(configured_cache(tmp_path)) == os.path.normpath(config["cache"]["dir"])

    def test_without_one_the_cache_is_dvcs_own(self, tmp_path):
        assert configured_cache(tmp_path) == tmp_path / ".dvc" / "cache"

    def test_a_damaged_file_is_told(self, tmp_path):
        (tmp_path / ".dvc").mkdir()
        (tmp_path / ".dvc" / "config").write_text("remote = store\n")
        with pytest.raises(StoreError, match="cannot be read"):
            configured_store(tmp_path)

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


class TestSharedConfig:
    """A second work tree of a clone uses the clone's cache and store."""

    def share(self, tmp_path, config, local=""):
        for name in ("clone", "own"):
            (tmp_path / name / ".dvc").mkdir(parents=True)
            (tmp_path / name / ".dvc" / "config").write_text(config)
        (tmp_path / "clone" / ".dvc" / "config.local").write_text(local)
        share_config(tmp_path / "clone", tmp_path / "own")
        return tmp_path / "own"

    def test_the_cache_is_the_clones_and_a_store_in_the_repository_is_its_own(self, tmp_path):
        own = self.share(tmp_path, "[core]\n    remote = store\n['remote \"store\"']\n    url = ../store\n")

        assert configured_cache(own) == tmp_path / "clone" / ".dvc" / "cache"
        assert resolved_url(own) == str(own / "store")

    def test_a_store_elsewhere_and_its_keys_are_the_clones(self, tmp_path):
        local = "['remote \"store\"']\n    password = a#b\n    url = ../../elsewhere\n"
        own = self.share(tmp_path, "[core]\n    remote = store\n['remote \"store\"']\n    url = s3://bucket\n", local)

        assert resolved_url(own) == str(tmp_path / "elsewhere")
        assert "password = a#b" in (own / ".dvc" / "config.local").read_text()
