"""What each extra of the engine weighs: packages, megabytes, seconds to install from uv's cache, seconds to import.

    python engine/benchmarks/extras.py

Each goes into an environment of its own, in the versions of the engine's uv.lock. The peer of each is `all`, the
installation that every job had before there were extras.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mergeline.image.build import find_uv

ENGINE = Path(__file__).resolve().parents[1]
IMPORTED = {
    "": "mergeline.cli.verbs",
    "github": "mergeline.ci.apply",
    "serve": "mergeline.serve.worker",
    "watch": "mergeline.watch.watch",
    "train": "mergeline.model.train",
    "all": "mergeline.model.train",
}
"""For each extra, the module that its job imports first."""
ROUNDS = 3


def main() -> None:
    """Install and import each, and print a table in Markdown."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = {extra: measure(extra, Path(scratch) / (extra or "base")) for extra in IMPORTED}
    whole = rows["all"]
    print("| extra | packages | MB | install, s | import, s | packages, MB against all |")
    print("|---|---|---|---|---|---|")
    for extra, (packages, megabytes, install, load) in rows.items():
        shares = f"{packages / whole[0]:.0%}, {megabytes / whole[1]:.0%}"
        print(f"| {extra or '(base)'} | {packages} | {megabytes:.0f} | {install:.1f} | {load:.2f} | {shares} |")


def measure(extra: str, place: Path) -> tuple[int, float, float, float]:
    """Packages, megabytes, seconds to install, seconds to import."""
    run(find_uv(), "venv", "--quiet", "--python", sys.executable, str(place))
    requirements = place / "requirements.txt"
    chosen = ["--extra", extra] if extra else []
    run(find_uv(), "export", "--quiet", "--locked", "--project", str(ENGINE), "--no-default-groups",
        "--no-emit-project", "--no-hashes", "--output-file", str(requirements), *chosen)  # fmt: skip
    python = str(place / "bin" / "python")
    started = time.monotonic()
    run(find_uv(), "pip", "install", "--quiet", "--python", python, "--no-deps", "--requirements", str(requirements))
    run(find_uv(), "pip", "install", "--quiet", "--python", python, "--no-deps", str(ENGINE))
    installed = time.monotonic() - started
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file() and not file.is_symlink())
    packages = sum("==" in line for line in requirements.read_text().splitlines())
    loads = []
    for _ in range(ROUNDS + 1):
        started = time.monotonic()
        run(python, "-c", f"import {IMPORTED[extra]}")
        loads.append(time.monotonic() - started)
    return packages, size / 1e6, installed, statistics.median(loads[1:])


def run(*command: str) -> None:
    """Run a command, and let it fail loudly."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
