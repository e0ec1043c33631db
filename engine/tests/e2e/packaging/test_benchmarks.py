"""Every benchmark finds what it reads, wherever the repository's folders have gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"

LOAD = """
import json, runpy, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
found = runpy.run_path(sys.argv[1], run_name="loaded")
print(json.dumps({name: str(value) for name, value in found.items() if isinstance(value, Path)}))
"""


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_benchmark_loads_and_what_it_reads_is_there(script: Path) -> None:
    run = subprocess.run([sys.executable, "-c", LOAD, str(script)], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    paths = json.loads(run.stdout)
    assert {name: path for name, path in paths.items() if not Path(path).exists()} == {}
