from __future__ import annotations

import os
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mergeline.errors import StoreError
from mergeline.serve.model_loading import KEEP_SECONDS, ModelCache
from mergeline.store.objects import Store


@pytest.fixture
def cache(production):
    folder = production.root / "cache"
    return ModelCache(folder, Store(str(production.store)))


def names(production) -> set[str]:
    return {path.name for path in (production.root / "cache").iterdir()}


def test_a_model_that_nobody_names_goes_after_a_day(production, cache):
    old, new = production.push(seed=1), production.push(seed=2)
    for model in (old, new):
        cache.fetch(model.source, model.digest)
    assert cache.prune([new.digest], time.time()) == []
    assert cache.prune([new.digest], time.time() + KEEP_SECONDS + 60) == [old.digest.replace(":", "-")]
    assert {name.split(".")[0] for name in names(production)} == {new.digest.replace(":", "-")}


def test_a_model_that_somebody_names_counts_as_used(production, cache):
    model = production.push()
    cache.fetch(model.source, model.digest)
    half = KEEP_SECONDS * 0.6
    cache.prune([model.digest], time.time() + half)
    assert cache.prune([], time.time() + 2 * half) == []
    assert cache.prune([], time.time() + 2 * half + KEEP_SECONDS) != []


def test_a_fetch_that_was_cut_off_leaves_nothing_for_ever(production, cache):
    draft = production.root / "cache" / ".sha256-ab.xyz"
    draft.mkdir(parents=True)
    (draft / "model.skops").write_text("half")
    assert cache.prune([], time.time()) == []
    os.utime(draft, (time.time() - KEEP_SECONDS - 60,) * 2)
    assert cache.prune([], time.time()) == [".sha256-ab.xyz"]
    assert names(production) == set()


def test_other_files_are_left_alone(production, cache):
    folder = production.root / "cache"
    folder.mkdir()
    (folder / "signatures").mkdir()
    os.utime(folder / "signatures", (0, 0))
    assert cache.prune([], time.time()) == []
    assert names(production) == {"signatures"}


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_models_come_from_wherever_fsspec_reaches(production, tmp_path, protocol):
    import fsspec

    model = production.push()
    url = f"{protocol}://{tmp_path}/elsewhere"
    store = fsspec.filesystem(protocol)
    for path in production.store.rglob("*"):
        if path.is_file():
            target = f"{tmp_path}/elsewhere/{path.relative_to(production.store)}"
            store.makedirs(target.rpartition("/")[0], exist_ok=True)
            store.pipe_file(target, path.read_bytes())
    folder = ModelCache(tmp_path / "models", Store(url)).fetch(model.source, model.digest)
    assert (folder / "signature.json").exists()


def test_models_come_over_http(production, tmp_path):
    model = production.push()
    handler = partial(SimpleHTTPRequestHandler, directory=str(production.store))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = Store(f"http://127.0.0.1:{server.server_port}")
        folder = ModelCache(tmp_path / "models", store).fetch(model.source, model.digest)
        server.shutdown()
    assert (folder / "signature.json").exists()
    with pytest.raises(StoreError, match="does not answer"):
        ModelCache(tmp_path / "others", store).fetch(model.source, model.digest)
