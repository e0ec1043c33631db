"""`uv sync` in a job's workspace: what was installed for the same words before comes back first, with hard links.

It is a program, the first `uv sync` of each job. uv then makes the environment what uv.lock says, as on any runner.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from local_github.warm import link_copy, move_scripts


def main(words: Sequence[str]) -> int:
    """Put an environment in place, let uv bring it up to date, and keep it for the next job that asks for the same."""
    warm, target = Path(os.environ["LOCAL_GITHUB_VENV"]), Path.cwd() / ".venv"
    place = Path(os.environ["RUNNER_TEMP"], "venv")
    kept = warm.with_name(f"{hashlib.sha256(' '.join(words).encode()).hexdigest()[:16]}-venv")
    source = kept if kept.is_dir() else warm
    linked = source.is_dir() and link_copy(source, place)
    if linked:
        move_scripts(source, place, target)
        # Beside the workspace: act reads every file in it for each `hashFiles`, wanted or not, but follows no link.
        target.symlink_to(place)
        with Path(".git", "info", "exclude").open("a") as ignored:
            ignored.write("/.venv\n")
    code = subprocess.run([os.environ["LOCAL_GITHUB_UV"], *words], check=False).returncode
    if linked and code == 0 and source == warm:
        with tempfile.TemporaryDirectory(dir=warm.parent) as scratch:
            made = Path(scratch, "venv")
            if link_copy(place, made):
                move_scripts(target, made, kept)
                move_scripts(place, made, kept)
                with contextlib.suppress(OSError):  # another job was first
                    made.rename(kept)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
