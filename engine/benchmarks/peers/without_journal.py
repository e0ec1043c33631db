"""Our own server with its journal taken out, to see what the journal costs; started in a folder as `mergeline serve`.

python benchmarks/peers/without_journal.py STORE PORT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mergeline.journal.prediction_recorder import Recorder
from mergeline.serve import run, worker


def stay(_: str, command: list[str], environment: dict[str, str]) -> None:
    """Become the worker in this process, where the journal is taken out."""
    os.environ.update(environment)
    worker.main(int(command[-1]))


if __name__ == "__main__":
    os.execve = stay  # type: ignore[assignment]
    Recorder.append = lambda *_: None  # type: ignore[method-assign]
    run.serve(Path(), host="127.0.0.1", port=int(sys.argv[2]), manifest="deploy/manifest.yaml", store=sys.argv[1])
