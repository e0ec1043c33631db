"""Locust against the real server."""

from __future__ import annotations

import pytest
from isolated import EXAMPLES, isolated
from serve_process import serving

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server")]


def test_the_sla_is_the_exit_code(production, tmp_path):
    production.release(production.push(seed=1))

    def load(*sla: str):
        return isolated(
            "locust", "-f", EXAMPLES / "locust" / "locustfile.py", "--headless", "--host", server.url, "--users", "3",
            "--spawn-rate", "3", "--run-time", "12s", "--only-summary", *sla,
            packages=("locust==2.47.0",), cwd=tmp_path, MERGELINE_SERVE_API_KEY="open sesame",
        )  # fmt: skip

    with serving(production, key="open sesame") as server:
        server.wait(server.ready)
        met = load("--sla-p99-ms", "5000")
        assert met.returncode == 0, met.stdout + met.stderr
        assert "/predict twenty" in met.stdout + met.stderr
        missed = load("--sla-p99-ms", "0.001")
        assert missed.returncode == 1
        assert "the SLA is missed" in missed.stdout + missed.stderr
