"""The server from its start to its end: without a manifest, interrupted, and under BentoML's own launcher."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import yaml
from serve_process import Running, group_is_empty, running, serving
from serve_samples import RECORD, Production

from mergeline.serve.run import open_listener, worker_environment
from mergeline.serve.settings import Settings

pytestmark = pytest.mark.slow


class TestLife:
    def test_it_starts_without_a_manifest_heals_and_leaves_nothing_at_sigterm(self, tmp_path):
        production = Production(tmp_path)
        with serving(production) as server:
            server.wait(lambda: server.client.get("/livez").status_code == 200)
            assert server.client.get("/readyz").status_code == 503
            server.wait(lambda: server.status["error"] is not None)
            response = server.predict(RECORD)
            assert response.status_code == 503
            assert "cannot be read" in response.json()["error"]
            assert server.client.get("/openapi.json").status_code == 503

            production.release(production.push())
            server.wait(server.ready)
            assert server.predict(RECORD).status_code == 200

            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=20) == 0
            assert group_is_empty(server.process.pid)
            assert not list((tmp_path / "tmp").iterdir())
            assert "Traceback" not in server.log.read_text()

    def test_ctrl_c_while_it_loads_a_model_ends_it_quietly(self, tmp_path):
        production = Production(tmp_path)
        production.release(production.push())
        with serving(production) as server:
            server.wait(lambda: server.client.get("/livez").status_code == 200)
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(timeout=20) == 0
            assert group_is_empty(server.process.pid)
            assert "Traceback" not in server.log.read_text()

    def test_bentomls_own_launcher_serves_the_same(self, tmp_path):
        production = Production(tmp_path)
        model = production.push()
        production.release(model)
        settings = Settings(
            root=str(tmp_path),
            manifest=str(production.manifest),
            store=str(production.store),
            cache=str(tmp_path / "cache"),
        )
        (tmp_path / "metrics").mkdir()
        environment = worker_environment(settings, os.environ, str(tmp_path / "metrics"))
        with open_listener("127.0.0.1", 0) as free:
            port = free.getsockname()[1]
        service = "mergeline.serve.service:ModelServer"
        command = [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]
        with running(command, f"http://127.0.0.1:{port}", tmp_path / "log", environment) as server:
            server.wait(server.ready)
            assert server.predict(RECORD).json()["digest"] == model.digest
            assert f'digest="{model.digest}"' in server.client.get("/metrics").text
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(timeout=20)
            assert group_is_empty(server.process.pid)


class TestFullDisk:
    """Everything that the server writes is on one disk, which is full: TMPDIR, journal, rollout, and models."""

    @pytest.mark.parametrize("workers", [1, 2])
    def test_it_answers_on_says_so_and_heals(self, full_disk, workers):
        production = Production(full_disk.folder)
        model, other = (production.push(seed=seed, compiled=True) for seed in (1, 2))
        production.release(model)
        with serving(production, workers=workers) as server:
            # One that starts on a full disk ends, and says why at length.
            server.wait(lambda: server.log.read_text().count("serving flights") == workers)
            for number in range(2, 40):  # each leaves a label in the metrics' files, which grow
                full_disk.fill()
                document = yaml.safe_load(production.manifest.read_text())
                document["spec"]["stable"] = model.release(number)
                rewrite(production.manifest, document)
                server.wait(lambda number=number: server.status["stable"]["version"] == number)
                assert server.predict(RECORD).status_code == 200
            server.wait(lambda: self.lost_some(server))
            full_disk.fill()
            document["spec"]["stable"] = other.release(40)
            rewrite(production.manifest, document)
            server.wait(lambda: server.status["error"])
            assert "No space left on device" in server.status["error"]["what"]
            assert "make room" in server.status["error"]["hint"]
            assert server.client.get("/metrics").status_code == 200
            assert server.predict(RECORD).json()["digest"] == model.digest

            full_disk.make_room()
            server.wait(lambda: server.status["stable"]["digest"] == other.digest)
            server.wait(lambda: server.status["journal"]["writing"])
            assert server.status["error"] is None
            assert "Traceback" not in server.log.read_text()

    @staticmethod
    def lost_some(server: Running) -> bool:
        assert server.predict([RECORD] * 20).status_code == 200
        return not server.status["journal"]["writing"]


def rewrite(path: Path, document: dict) -> None:
    """Write a file's content into its own blocks: there are no others."""
    with path.open("r+") as stream:
        yaml.safe_dump(document, stream, sort_keys=False)
        stream.truncate()
