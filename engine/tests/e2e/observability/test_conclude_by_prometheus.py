"""`mergeline rollout status --prometheus` beside `--url`: a server that rolls out, and its Prometheus."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from breakable_production import STEPS, Traffic, analysis, serving
from metric_tools import eventually, free_port, monitoring, needs


def concluded(root: Path, *options: str) -> dict[str, object]:
    """What the verb says in a repository."""
    command = [str(Path(sys.executable).with_name("mergeline")), "rollout", "status", "--json", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@needs("prometheus", "alertmanager", "node exporter")
def test_prometheus_and_the_server_say_the_same_of_a_rollout(tmp_path, breakables):
    port = free_port()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = ../store\n")
    breakables.deploy()
    with (
        monitoring(tmp_path / "monitor", port) as monitor,
        # Nothing but its analyses may end this rollout, however busy the machine is.
        serving(tmp_path, port, tmp_path / "copies", max_latency_ms=60_000, max_latency_ratio=10_000) as server,
        Traffic(server.url),
    ):
        server.wait(server.ready)
        prometheus, status = str(monitor.prometheus.base_url), f"{server.url}/status"

        def both(phase: str) -> set[str]:
            """The endings by either, once Prometheus has seen the phase of the manifest's rollout."""
            server.wait(lambda: (server.status["rollout"] or {}).get("phase") == phase)
            eventually(
                lambda: phase in str(concluded(tmp_path, "--prometheus", prometheus)["reasons"]),
                lambda: concluded(tmp_path, "--prometheus", prometheus),
            )
            asked = (("--prometheus", prometheus), ("--url", status))
            return {str(concluded(tmp_path, *options)["ending"]) for options in asked}

        assert {concluded(tmp_path, "--prometheus", prometheus)["ending"]} == {"nothing"}
        breakables.deploy(steps=STEPS, analysis=[analysis()])
        assert both("progressing") == {"wait"}
        breakables.deploy(steps=[{"weight": 50, "hold": "1s"}], analysis=[analysis()])
        assert both("passed") == {"finish"}
        breakables.deploy(steps=STEPS, analysis=[analysis(failure=">= 0", success="< 0")])
        assert both("failed") == {"abort"}
