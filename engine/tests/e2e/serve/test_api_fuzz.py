"""The server against its own description, by schemathesis."""

from __future__ import annotations

import subprocess
import sys

import pytest
from serve_process import serving
from serve_samples import Production

from mergeline.params import Task

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("task", list(Task))
def test_the_server_does_what_its_description_says(tmp_path, task):
    pytest.importorskip("schemathesis")
    production = Production(tmp_path)
    production.release(production.push(task=task, compiled=True))
    with serving(production) as server:
        server.wait(server.ready)
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--no-color"]
        command += ["--max-examples", "50", "--seed", "1", "--generation-database", "none"]
        command += ["--exclude-path-regex", "infer$"]  # tensors that fit one another are no matter of a schema
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert told.returncode == 0, told.stdout[-5000:] + told.stderr
        assert "Traceback" not in server.log.read_text()
