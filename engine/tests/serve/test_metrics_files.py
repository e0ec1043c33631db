"""The files of prometheus_client, which all workers read."""

import subprocess
import sys

PROGRAM = """
from prometheus_client import CollectorRegistry
from mergeline.serve.metrics import Metrics
Metrics(CollectorRegistry())
"""
READER = """
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
multiprocess.MultiProcessCollector(registry := CollectorRegistry())
print(generate_latest(registry).decode())
"""


def test_a_worker_that_starts_on_a_full_disk_leaves_nothing_that_others_cannot_read(full_disk):
    def run(program):
        environment = {"PROMETHEUS_MULTIPROC_DIR": str(full_disk.folder)}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )

    assert run(PROGRAM).returncode == 0
    full_disk.fill()
    failed = run(PROGRAM)
    assert "No space left on device" in failed.stderr
    read = run(READER)
    assert read.returncode == 0, read.stderr
    assert "mergeline_reload_failures_total 0.0" in read.stdout
