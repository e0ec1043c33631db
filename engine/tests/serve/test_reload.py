from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from serve_samples import COLUMNS, RECORD, Production, Pushed, flip_a_bit, make_model, push

from mergeline.manifest.signatures import make_key_pair, sign_folder
from mergeline.model.artifact import MLFLOW_FILE, MODEL_FILE, folder_digest, mlflow_description
from mergeline.params import Task
from mergeline.scorer.signature import Column, Kind
from mergeline.serve.metrics import Metrics
from mergeline.serve.reload import Poller, Reloader
from mergeline.serve.settings import Settings
from mergeline.serve.state import CurrentState, describe

START = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """A reloader with a clock that a test moves by hand."""

    def __init__(self, production: Production, **settings) -> None:
        self.now = START
        self.current = CurrentState()
        self.registry = CollectorRegistry()
        manifest = settings.pop("manifest", production.manifest)
        store = settings.pop("store", production.store)
        places = {"root": production.root, "manifest": manifest, "store": store}
        self.settings = Settings(
            **{name: str(path) for name, path in places.items()},
            cache=settings.pop("cache", str(production.root / "cache")),
            **settings,
        )
        self.swaps = 0
        self._reloader = Reloader(
            self.settings,
            self.current,
            Metrics(self.registry),
            clock=lambda: self.now,
            after_swap=self._count_swap,
        )

    def _count_swap(self) -> None:
        self.swaps += 1

    def poll(self, seconds: float = 0) -> Server:
        self.now += timedelta(seconds=seconds)
        self._reloader.poll()
        return self

    @property
    def digest(self) -> str | None:
        serving = self.current.state.serving
        return serving.stable.model.digest if serving else None

    @property
    def error(self) -> str | None:
        failure = self.current.state.failure
        return str(failure.error) if failure else None

    def metric(self, metric: str, **labels) -> float | None:
        return self.registry.get_sample_value(f"mergeline_{metric}", labels)


@contextmanager
def files_behind(folder: Path) -> Iterator[str]:
    """A web server that gives out a folder; its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class TestFirstStart:
    def test_the_manifests_model_is_served(self, production):
        model = production.push()
        production.release(model, number=3)
        server = Server(production).poll()
        assert (server.digest, server.error) == (model.digest, None)
        assert server.current.state.serving.stable.version == 3

    def test_a_model_that_calls_code_which_has_changed_since_says_so(self, production, caplog):
        folder = production.root / "calls" / "model"
        lineage = make_model(folder)
        (folder / MLFLOW_FILE).write_text(mlflow_description(["toy.model.doubled"]))
        production.release(Pushed(folder_digest(folder), push(folder, production.store), lineage))
        server = Server(production, trusted_types=("toy.*",)).poll()
        told = describe(server.current.state, ready=True)["stable"]
        assert told["changed_code"] == ["toy.model.doubled"]
        assert "changed since it was trained: toy.model.doubled" in caplog.text

    @pytest.mark.parametrize("task", list(Task))
    def test_every_task_can_be_served(self, production, task):
        production.release(production.push(task=task))
        server = Server(production).poll()
        stable = server.current.state.serving.stable
        batch = stable.reader.read(json.dumps(RECORD).encode(), 1)
        (answer,) = stable.answer(batch.ids, batch.rows)
        assert isinstance(answer.score, float)

    def test_no_manifest_is_said_and_heals(self, production):
        server = Server(production).poll()
        assert server.digest is None
        assert "No such file" in server.error
        production.release(production.push())
        assert server.poll().error is None
        assert server.digest is not None

    def test_a_manifest_without_a_model_is_said(self, production):
        production.release(None)
        assert "no model is released yet" in Server(production).poll().error

    def test_a_broken_manifest_is_said_with_its_line(self, production):
        production.write(production.release(production.push()).replace("stable:", "stabel:"))
        server = Server(production).poll()
        assert server.digest is None
        assert "did you mean `stable`" in server.error

    def test_a_manifest_that_is_not_text_is_said(self, production):
        production.manifest.parent.mkdir()
        production.manifest.write_bytes(b"\xff\xfe\x00")
        assert Server(production).poll().error is not None


class TestSwap:
    def test_a_new_manifest_puts_its_model_into_service(self, production):
        old, new = production.push(seed=1), production.push(seed=2)
        production.release(old)
        server = Server(production).poll()
        production.release(new, number=2)
        assert server.poll(seconds=60).digest == new.digest
        assert server.current.state.serving.stable.since == START + timedelta(seconds=60)

    def test_a_link_that_is_turned_is_followed(self, production):
        old, new = production.push(seed=1), production.push(seed=2)
        texts = [production.release(model) for model in (old, new)]
        files = [production.root / f"{number}.yaml" for number in range(2)]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
        production.manifest.unlink()
        production.manifest.symlink_to(files[0])
        server = Server(production).poll()
        assert server.digest == old.digest
        turned = production.root / "turned"
        turned.symlink_to(files[1])
        turned.replace(production.manifest)
        assert server.poll().digest == new.digest

    def test_the_same_content_written_again_changes_nothing(self, production):
        text = production.release(production.push())
        server = Server(production).poll()
        before = server.current.state
        production.write(text)
        assert server.poll(seconds=60).current.state is before
        assert server.swaps == 1

    def test_the_same_model_under_a_new_version_is_not_loaded_again(self, production):
        model = production.push()
        production.release(model, number=1)
        server = Server(production).poll()
        before = server.current.state.serving.stable
        production.release(model, number=2)
        shutil.rmtree(production.store)
        after = server.poll(seconds=60).current.state.serving.stable
        assert (after.version, after.since) == (2, before.since)
        assert after.model is before.model

    def test_a_rollback_needs_nothing_from_the_store(self, production):
        old, new = production.push(seed=1), production.push(seed=2)
        server = Server(production)
        for model in (old, new):
            production.release(model)
            server.poll()
        shutil.rmtree(production.store)
        production.release(old, number=3)
        assert server.poll().digest == old.digest


class TestRefusal:
    """Anything wrong leaves the old model serving, is said, and heals when its cause goes."""

    @pytest.fixture
    def old(self, production):
        return production.push(seed=1)

    @pytest.fixture
    def server(self, production, old):
        production.release(old)
        return Server(production).poll()

    def test_a_broken_manifest(self, production, server, old):
        text = production.manifest.read_text()
        production.write(text + "  candidates: {}\n")
        server.poll()
        assert server.digest == old.digest
        assert "unknown key" in server.error
        production.write(text)
        assert server.poll().error is None

    def test_a_manifest_that_went_away(self, production, server, old):
        production.manifest.unlink()
        assert server.poll().digest == old.digest
        assert server.error is not None

    def test_a_manifest_that_names_no_model_any_more(self, production, server, old):
        production.release(None)
        assert server.poll().digest == old.digest
        assert "no model is released" in server.error

    def test_one_flipped_bit_in_the_store(self, production, server, old):
        new = production.push(seed=2)
        stored = production.object_of(new, MODEL_FILE)
        good = flip_a_bit(stored)
        production.release(new, number=2)
        assert server.poll().digest == old.digest
        assert "md5" in server.error
        stored.write_bytes(good)
        assert server.poll(seconds=60).digest == new.digest
        assert server.error is None

    def test_a_truncated_object(self, production, server, old):
        new = production.push(seed=2)
        stored = production.object_of(new, MODEL_FILE)
        good = stored.read_bytes()
        stored.write_bytes(good[: len(good) // 2])
        production.release(new, number=2)
        assert server.poll().digest == old.digest
        assert "md5" in server.error
        stored.write_bytes(good)
        assert server.poll(seconds=60).digest == new.digest

    def test_a_model_that_fails_its_first_prediction(self, production, server, old):
        production.release(production.push(seed=2, columns=COLUMNS[1:]), number=2)
        assert server.poll().digest == old.digest
        assert "the model failed" in server.error

    def test_a_store_that_is_down(self, production, server, old):
        new = production.push(seed=2)
        production.release(new, number=2)
        away = production.root / "away"
        production.store.rename(away)
        assert server.poll().digest == old.digest
        assert server.error is not None
        away.rename(production.store)
        assert server.poll(seconds=60).digest == new.digest

    def test_an_object_that_is_not_there_yet(self, production, server, old):
        new = production.push(seed=2)
        stored = production.object_of(new, MODEL_FILE)
        good = stored.read_bytes()
        stored.unlink()
        production.release(new, number=2)
        assert server.poll().digest == old.digest
        assert "not in the store" in server.error
        stored.write_bytes(good)
        assert server.poll(seconds=60).digest == new.digest

    def test_an_object_that_holds_another_model_than_the_manifest_promises(self, production, server, old):
        new, other = production.push(seed=2), production.push(seed=3)
        text = production.release(new, number=2)
        production.write(text.replace(new.source, other.source))
        assert server.poll().digest == old.digest
        assert f"the object is the model {other.digest}" in server.error

    @pytest.mark.parametrize("part", ["code", "data", "params", "environment"])
    def test_an_origin_that_is_not_the_models(self, production, server, old, part):
        new = production.push(seed=2)
        origin = getattr(new.lineage, part)
        # "0" keeps the form of a digest, and none of the models' digests ends like this.
        wrong = origin.removesuffix(".dir")[:-4] + "0f0f" + (".dir" if origin.endswith(".dir") else "")
        production.write(production.release(new, number=2).replace(origin, wrong))
        assert server.poll().digest == old.digest
        assert f"made from {part}" in server.error

    def test_a_model_of_another_name(self, production, server, old):
        production.release(production.push(seed=2, name="trains"), number=2)
        assert server.poll().digest == old.digest
        assert "called 'trains'" in server.error

    def test_a_model_that_no_request_could_be_read_for(self, production, server, old):
        time = Column(name="temp", kind=Kind.TIME, nullable=False)
        production.release(production.push(seed=2, columns=(time, *COLUMNS[1:])), number=2)
        assert server.poll().digest == old.digest
        assert "kind time" in server.error

    def test_a_held_model(self, production, server, old):
        new = production.push(seed=2)
        text = production.release(new, number=2)
        production.write(text + f"  holds:\n  - {{digest: '{new.digest}', reason: too many complaints}}\n")
        assert server.poll().digest == old.digest
        assert "under a hold" in server.error

    def test_a_failed_manifest_is_tried_again_after_ever_longer_waits(self, production, server):
        new = production.push(seed=2)
        production.object_of(new, MODEL_FILE).unlink()
        production.release(new, number=2)
        loader = []
        for second in range(100):
            server.poll(seconds=1)
            loader.append((second, server.metric("reload_failures_total")))
        tried = [second for second, count in loader if count != (loader[second - 1][1] if second else 0)]
        assert tried == [0, 2, 6, 14, 30, 60, 90]

    def test_the_waits_begin_anew_with_another_manifest(self, production, server):
        models = [production.push(seed=seed) for seed in (2, 3)]
        for model in models:
            production.object_of(model, MODEL_FILE).unlink()
        production.release(models[0], number=2)
        for _ in range(10):
            server.poll(seconds=60)
        production.release(models[1], number=3)
        failed = server.poll().metric("reload_failures_total")
        assert server.poll(seconds=2).metric("reload_failures_total") == failed + 1

    def test_another_manifest_is_tried_at_once(self, production, server):
        bad, good = production.push(seed=2), production.push(seed=3)
        production.object_of(bad, MODEL_FILE).unlink()
        production.release(bad, number=2)
        server.poll()
        production.release(good, number=3)
        assert server.poll().digest == good.digest

    def test_a_standing_failure_keeps_its_first_time(self, production, server):
        production.manifest.unlink()
        server.poll(seconds=1)
        assert server.poll(seconds=100).current.state.failure.since == START + timedelta(seconds=1)


class TestCache:
    def test_a_damaged_copy_is_fetched_again(self, production):
        model = production.push()
        production.release(model)
        first = Server(production).poll()
        flip_a_bit(first.current.state.serving.stable.model.folder / MODEL_FILE)
        second = Server(production).poll()
        assert (second.digest, second.error) == (model.digest, None)

    def test_a_copy_with_a_file_too_many_is_fetched_again(self, production):
        model = production.push()
        production.release(model)
        folder = Server(production).poll().current.state.serving.stable.model.folder
        (folder / "more").write_text("x")
        assert Server(production).poll().digest == model.digest
        assert not (folder / "more").exists()

    def test_a_good_copy_needs_no_store(self, production):
        model = production.push()
        production.release(model)
        Server(production).poll()
        shutil.rmtree(production.store)
        assert Server(production).poll().digest == model.digest


class TestSignatures:
    def test_an_unsigned_model_is_not_served_where_signatures_are_required(self, production):
        production.release(production.push())
        server = Server(production, signing_policy="required").poll()
        assert server.digest is None
        assert "not signed" in server.error

    def test_a_signed_one_is(self, production):
        model = production.push()
        settings = {"signing_policy": "required", "public_key": "signing.pub"}
        server = Server(production, **settings)
        private, _ = make_key_pair(production.root)
        folder = next(production.root.glob("*/model"))
        name = sign_folder(folder, production.root, server.settings.signing, private)
        text = production.release(model)
        production.write(text.replace("    evidence:", f"    signature: {name}\n    evidence:"))
        assert server.poll().error is None
        assert server.digest == model.digest

    def test_a_bad_copy_of_a_signature_is_fetched_again(self, production, tmp_path):
        model, site = production.push(), tmp_path / "site"
        server = Server(production, signing_policy="required", public_key="signing.pub")
        private, _ = make_key_pair(production.root)
        folder = next(production.root.glob("*/model"))
        name = sign_folder(folder, production.root, server.settings.signing, private)
        text = production.release(model).replace("    evidence:", f"    signature: {name}\n    evidence:")
        good = (production.root / name).read_bytes()
        fetched = site / name.removeprefix("deploy/")
        fetched.parent.mkdir(parents=True)
        fetched.write_bytes(b"{}")
        (site / "manifest.yaml").write_text(text)
        with files_behind(site) as address:
            server = Server(
                production, manifest=f"{address}/manifest.yaml", signing_policy="required", public_key="signing.pub"
            )
            assert "signature" in server.poll().error
            fetched.write_bytes(good)
            assert server.poll(seconds=60).error is None
        assert server.digest == model.digest

    def test_what_is_wrong_with_a_manifest_is_told_without_the_secrets_of_its_address(self, production, tmp_path):
        (tmp_path / "site").mkdir()
        with files_behind(tmp_path / "site") as address:
            place = address.replace("http://", "http://me:secret@") + "/manifest.yaml?token=secret"
            server = Server(production, manifest=place)
            for text in ("spec: {}", production.release(None)):
                (tmp_path / "site" / "manifest.yaml").write_text(text)
                server.poll(seconds=60)
                assert f"{address}/manifest.yaml" in server.error
                assert "secret" not in server.error


class TestMetrics:
    def test_the_served_model_is_1_and_the_former_one_0(self, production):
        old, new = production.push(seed=1), production.push(seed=2)
        server = Server(production)
        for number, model in enumerate((old, new), 1):
            production.release(model, number=number)
            server.poll()
        common = {"name": "flights", "role": "stable"}
        assert server.metric("model_info", version="1", digest=old.digest, **common) == 0
        assert server.metric("model_info", version="2", digest=new.digest, **common) == 1

    def test_success_is_a_time_and_failure_is_counted(self, production):
        server = Server(production)
        assert server.metric("last_reload_successful") == 0
        text = production.release(production.push())
        server.poll()
        assert server.metric("last_reload_successful") == 1
        production.manifest.unlink()
        server.poll(seconds=10)
        assert server.metric("last_reload_successful") == 0
        assert server.metric("reload_failures_total") == 1
        assert server.metric("last_reload_success_timestamp_seconds") == START.timestamp()
        production.write(text)
        server.poll(seconds=10)
        assert server.metric("last_reload_successful") == 1


def test_two_servers_may_start_at_once_on_one_cache(production):
    from concurrent.futures import ThreadPoolExecutor

    model = production.push()
    production.release(model)
    servers = [Server(production) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Server.poll, servers))
    assert [(server.digest, server.error) for server in servers] == [(model.digest, None)] * 4
    assert sorted(path.suffix for path in Path(servers[0].settings.cache).iterdir()) == ["", ".lock"]


@pytest.mark.parametrize("error", [OSError("no limit for counters"), SystemExit(3), KeyboardInterrupt()])
def test_a_task_that_fails_stops_neither_the_others_nor_the_next_round(error):
    rounds, enough = [], threading.Event()

    def fail() -> None:
        raise error

    def note() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            enough.set()

    poller = Poller((fail, note), 0.01)
    poller.start()
    assert enough.wait(10)
    poller.stop()
    assert poller.restarts >= 3
