"""Trains models here and on a Dask cluster of two worker processes; run where Dask is, which the engine does not need.

Prints, as JSON: by factory the two digests; how many tasks the workers ended; and the errors of clusters that are not
ready.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from distributed import LocalCluster

from mergeline.errors import CodeError
from toy_data import train_toy

FACTORIES = ("searched_by_chance", "searched", "unseeded_forest")


def main(root: Path, nobody: str) -> None:
    from mergeline.model.artifact import folder_digest

    made: dict[str, list[str]] = {}
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        there = cluster.scheduler_address.replace("tcp://", "dask://")
        for factory in FACTORIES:
            made[factory] = [
                folder_digest(train_toy(root, model={"factory": f"toy.searches:{factory}", "backend": backend}))
                for backend in ("threads", there)
            ]
        tasks = sum(each[1:3] == ("processing", "memory") for each in cluster.scheduler.transition_log)
        errors = [
            refusal(root, nobody),
            refusal(root, there, factory="toy.searches:tempered"),
            refused_by_strangers(cluster, root, there),
        ]
        cluster.scale(0)
        while cluster.scheduler.workers:
            time.sleep(0.1)
        errors.append(refusal(root, there))
    sys.stdout.write(json.dumps({"made": made, "tasks": tasks, "errors": errors}))


def refusal(root: Path, backend: str, **model: str) -> str:
    """The error of training there, which must come in time."""
    started = time.monotonic()
    try:
        train_toy(root, model={"backend": backend, **model})
    except CodeError as error:
        return error.what if time.monotonic() - started < 60 else "too late"
    return "trained"


def refused_by_strangers(cluster: LocalCluster, root: Path, backend: str) -> str:
    """The error where the workers have another version of a library."""
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        client.run(_change_numpy)
        return refusal(root, backend)


def _change_numpy() -> None:
    import importlib.metadata

    known = importlib.metadata.version
    importlib.metadata.version = lambda name: "0.0.1" if name == "numpy" else known(name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
