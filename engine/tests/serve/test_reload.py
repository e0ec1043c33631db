from __future__ import annotations

import json
import shutil
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from reload_samples import START, Server, files_behind
from serve_samples import RECORD, Pushed, flip_a_bit, make_model, push

from mergeline.manifest.signatures import make_key_pair, sign_folder
from mergeline.model.artifact import MLFLOW_FILE, MODEL_FILE, folder_digest, mlflow_description
from mergeline.params import Task
from mergeline.serve.reload import Poller
from mergeline.serve.state import describe


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
