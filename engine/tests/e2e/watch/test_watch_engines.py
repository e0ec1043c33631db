"""The same window, counted by DuckDB, Postgres and Spark to the last row, and compiled for those that cannot be run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from isolated import beside_engine

from local_github.processes import free_port

pytestmark = pytest.mark.slow(minutes=2)

IBIS = "ibis-framework[postgres,pyspark]==12.0.0"


def watched(folder: Path, engine: str) -> list[str]:
    """What `engines_here.py` prints, beside Ibis."""
    script = Path(__file__).with_name("engines_here.py")
    told = beside_engine(script, folder, engine, packages=(IBIS,), tests=("watch",), SPARK_LOCAL_IP="127.0.0.1")
    found: list[str] = json.loads(told.splitlines()[-1])
    return found


@pytest.fixture
def postgres() -> Iterator[str]:
    """A server of its own; as root it runs as the user that Debian makes for it."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("postgres is not installed: make watch-tools")
    folder, port = Path(tempfile.mkdtemp(prefix="mergeline-pg-")), free_port()  # below nobody's private folder
    user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
        user = ["runuser", "-u", "postgres", "--"]
    data, ctl = str(folder / "data"), str(programs[-1] / "pg_ctl")
    subprocess.run([*user, str(programs[-1] / "initdb"), "-A", "trust", "-U", "watch", data], check=True, cwd=folder,
                   capture_output=True)  # fmt: skip
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c timezone=America/New_York"
    subprocess.run([*user, ctl, "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"], check=True,
                   cwd=folder, stdout=subprocess.DEVNULL)  # fmt: skip
    yield f"postgres://watch@127.0.0.1:{port}/postgres"
    subprocess.run([*user, ctl, "-D", data, "-m", "immediate", "stop"], check=True, cwd=folder, capture_output=True)
    shutil.rmtree(folder)


def test_postgres_counts_every_row_as_duckdb_does(tmp_path, postgres):
    assert watched(tmp_path / "home", postgres) == []


def test_spark_counts_every_row_as_duckdb_does(tmp_path):
    if shutil.which("java") is None:
        pytest.skip("java is not installed: make watch-tools")
    assert watched(tmp_path / "home", "spark://local-cluster[2,1,1024]") == []  # two workers, each a process


def test_the_expression_compiles_for_engines_that_cannot_be_run_here(tmp_path):
    assert watched(tmp_path / "home", "compile") == ["bigquery", "trino", "snowflake"]
