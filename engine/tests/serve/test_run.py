from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from mergeline.errors import MergelineError
from mergeline.serve.draining import stop_accepting
from mergeline.serve.run import AddressError, open_listener, run, worker_environment
from mergeline.serve.settings import Settings, read_settings
from mergeline.serve.supervisor import Worker


def test_port_0_is_any_free_port():
    with open_listener("127.0.0.1", 0) as first, open_listener("127.0.0.1", 0) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_a_taken_port_is_an_error_that_says_what_to_do():
    with open_listener("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=f"127.0.0.1:{port}: the port is taken.*\n.*--port"):
            open_listener("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine_is_an_error(host):
    with pytest.raises(AddressError, match="--host"):
        open_listener(host, 0)


def test_a_port_beyond_the_last_is_an_error():
    with pytest.raises(AddressError):
        open_listener("127.0.0.1", 70_000)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can do this")
def test_a_closing_door_lets_nobody_in_and_keeps_who_is_there():
    with open_listener("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as early:
            if not stop_accepting(listener):
                pytest.skip("this user may attach no filter to a socket")
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.2)
            listener.settimeout(1)
            accepted, _ = listener.accept()
            with accepted:
                early.sendall(b"question")
                assert accepted.recv(100) == b"question"
                accepted.sendall(b"answer")
                assert early.recv(100) == b"answer"
            with pytest.raises(TimeoutError):
                listener.accept()


def test_the_worker_gets_one_thread_no_telemetry_and_its_settings():
    settings = Settings(root="r", manifest="m", store="s", cache="c")
    environment = worker_environment(settings, {"PATH": "/bin", "OMP_NUM_THREADS": "8"}, "metrics")
    assert environment["PATH"] == "/bin"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["BENTOML_DO_NOT_TRACK"] == "True"
    assert read_settings(environment) == settings


def test_without_a_place_for_temporary_files_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with open_listener("127.0.0.1", 0) as listener, pytest.raises(MergelineError, match="TMPDIR: no folder"):
        run(Settings(root="r", manifest="m", store="s", cache="c"), listener)


class TestSupervisor:
    @pytest.fixture(autouse=True)
    def _metrics(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    def test_a_worker_that_cannot_be_started_is_tried_again_for_ever(self, capsys):
        worker, now = Worker(["/no/such/program"], 0), 0.0
        for _ in range(1100):
            worker.tend(now)
            now += 60
        assert worker.process is None
        assert capsys.readouterr().out.count("cannot be started") == 1100

    def test_a_log_that_takes_nothing_ends_nobody(self, monkeypatch):
        with socket.socket() as listener, Path("/dev/full").open("w", buffering=1) as full:
            worker = Worker([sys.executable, "-S", "-c", ""], listener.fileno())
            worker.tend(0.0)
            first = worker.process
            first.wait()
            monkeypatch.setattr(sys, "stdout", full)
            worker.tend(1.0)
            worker.tend(2.0)
            monkeypatch.undo()
            assert worker.process is not first
            worker.process.wait()
            with contextlib.suppress(OSError):
                full.close()
