"""What the server refuses leaves the old model serving, says why, and is tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from reload_samples import START, Server
from serve_samples import COLUMNS, flip_a_bit

from mergeline.model.artifact import MODEL_FILE
from mergeline.scorer.signature import Column, Kind


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

    def test_a_clock_that_is_set_back_makes_no_wait_longer(self, production, server):
        new = production.push(seed=2)
        stored = production.object_of(new, MODEL_FILE)
        good = stored.read_bytes()
        stored.unlink()
        production.release(new, number=2)
        server.poll(seconds=366 * 86_400)
        stored.write_bytes(good)
        assert server.poll(seconds=-365 * 86_400).digest == new.digest

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
