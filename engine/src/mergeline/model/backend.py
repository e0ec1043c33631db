"""Runs joblib's work on a cluster while a pipeline is fitted, and sees to it that the model comes out the same.

Training ends where the cluster stops to answer, or has lost what it was working on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mergeline.errors import CodeError
from mergeline.model.environment import installed_environment, team_package
from mergeline.model.lineage import git_tree

if TYPE_CHECKING:
    from mergeline.params import ModelParams

THREADS = "threads"
"""This machine's cores, as scikit-learn and the pipeline's own `n_jobs` use them."""

WAIT_SECONDS = 10
"""For the cluster to answer, and for a first worker."""

ANSWER_SECONDS = 60
"""For each node of Ray to start a process that answers."""

LOST_SECONDS = 60
"""How long a cluster may give no answer, or have no workers, while it trains."""

LOOK_SECONDS = 2

Found = TypeVar("Found")

_THREADS_INSTEAD = f"or set `backend: {THREADS}`: the model is the same"


@contextmanager
def training_backend(model: ModelParams) -> Iterator[None]:
    """What fits in this block and asks joblib for more than one process gets the workers of `model.backend`.

    Raises:
        CodeError: Dask or Ray is not installed, the cluster does not answer or has no workers, or a worker has other
            libraries or other code than are here, with which it would make another model; or training failed, or the
            cluster fell silent, after it had lost workers.
    """
    if model.backend == THREADS:
        yield
        return
    import joblib

    with ExitStack() as stack:
        cluster = _connected(model, stack)
        with joblib.parallel_config(**cluster.joblib), _told_of_losses(model, cluster):
            yield


@contextmanager
def _told_of_losses(model: ModelParams, cluster: _Cluster) -> Iterator[None]:
    """Say what the cluster has lost, where training fails for that."""
    before, left = set(_within_reach(model, cluster.workers)), set[str]()
    try:
        with ended_when_lost(cluster.workers):
            yield
    except ClusterLost as cause:
        raise _lost(model, f"gave no answer, or had no workers, for {LOST_SECONDS} s") from cause
    except Exception as cause:
        with contextlib.suppress(Exception):
            left = set(within(WAIT_SECONDS, cluster.workers))
        if gone := sorted(before - left):  # what they leave behind are all kinds of errors, which name the pipeline
            raise _lost(model, f"lost {len(gone)} of {len(before)} workers ({', '.join(gone)})") from cause
        raise


def _lost(model: ModelParams, what: str) -> CodeError:
    engine = _ENGINES[model.backend.partition("://")[0]]
    return CodeError(
        f"the cluster {what} while it trained; nothing was written",
        where=_where(model),
        hint=f"see whether its head (`{engine.scheduler}`) and its workers run, start them anew and train again, "
        f"{_THREADS_INSTEAD}",
    )


def fingerprint(factory: str) -> tuple[str, str]:
    """What a model's bytes depend on where this runs: the libraries, and the team's package."""
    return installed_environment(factory).digest, git_tree(team_package(factory))


class _Cluster(NamedTuple):
    """A cluster that answers.

    `workers` asks for their names, `fingerprints` gives what `fingerprint` returns or raises on each, and `joblib` is
    the way to it.
    """

    workers: Callable[[], Collection[str]]
    fingerprints: Callable[[str], Iterable[tuple[str, Any]]]
    joblib: dict[str, Any]


class _Engine(NamedTuple):
    """How to reach a cluster of this kind, and what to install and to start where there is none."""

    connect: Callable[[str], AbstractContextManager[_Cluster]]
    package: str
    scheduler: str
    worker: str


def _connected(model: ModelParams, stack: ExitStack) -> _Cluster:
    """The cluster, open as long as the stack is; its workers make the models that would be made here."""
    kind, _, address = model.backend.partition("://")
    engine = _ENGINES[kind]
    where, threads = _where(model), _THREADS_INSTEAD
    try:
        cluster = stack.enter_context(engine.connect(model.backend))
    except ImportError as cause:
        hint = f"uv add '{engine.package}', here and for the workers, {threads}"
        raise CodeError(f"{cause.name} is not installed", where=where, hint=hint) from cause
    except (RuntimeError, ConnectionAbortedError) as cause:
        hint = f"start it with the Python and the {engine.package} that are here, {threads}"
        why = " ".join(str(cause).rpartition("RuntimeError: ")[2].split())
        raise CodeError(f"the cluster refuses this client: {why}", where=where, hint=hint) from cause
    except (OSError, TimeoutError) as cause:
        hint = f"start it (`{engine.scheduler}`), check the address, {threads}"
        raise CodeError(f"the cluster does not answer within {WAIT_SECONDS} s", where=where, hint=hint) from cause
    worker = engine.worker.format(address=address, host=address.partition(":")[0])
    deadline = time.monotonic() + WAIT_SECONDS
    while not _within_reach(model, cluster.workers):
        if time.monotonic() > deadline:
            hint = f"start some where the repository is installed: {worker}"
            raise CodeError(f"the cluster has no workers after {WAIT_SECONDS} s", where=where, hint=hint)
        time.sleep(0.1)
    own = fingerprint(model.factory)
    for name, found in _within_reach(model, lambda: list(cluster.fingerprints(model.factory))):
        if found != own:
            what = "has other libraries or other code than are here"
            if isinstance(found, Exception):
                last = str(found).strip().rpartition("\n")[2]  # of a traceback that Ray tells
                what = f"cannot make this model: {type(found).__name__}: {last}"
            hint = f"start the workers from this commit: git checkout, uv sync --locked, {worker}"
            raise CodeError(f"the worker {name} {what}", where=where, hint=hint)
    return cluster


def _where(model: ModelParams) -> str:
    return f"params.yaml: model.backend: {model.backend}"


def _within_reach(model: ModelParams, work: Callable[[], Found]) -> Found:
    """What a cluster that answered a moment ago says to this."""
    try:
        return within(2 * ANSWER_SECONDS, work)
    except TimeoutError as cause:
        raise _lost(model, f"gave no answer for {2 * ANSWER_SECONDS} s before") from cause


@contextmanager
def _dask(address: str) -> Iterator[_Cluster]:
    from distributed import Client

    place = address.replace("dask://", "tcp://")
    # The client's own limits do not hold where somebody takes the connection, and then says nothing.
    client = within(WAIT_SECONDS, lambda: Client(place, timeout=WAIT_SECONDS, set_as_default=False))
    try:
        yield _Cluster(
            workers=lambda: client.nthreads().keys(),
            fingerprints=lambda factory: client.run(fingerprint, factory, on_error="return").items(),
            joblib={"backend": "dask", "client": client},
        )
    finally:
        with contextlib.suppress(TimeoutError):
            within(WAIT_SECONDS, client.close)


@contextmanager
def _ray(address: str) -> Iterator[_Cluster]:
    # Ray reads these when it is imported: it tries to connect three times; of a client under `uv run` it would send the
    # whole folder to the workers and install it anew there; and it tells much that is no news.
    wait = str(WAIT_SECONDS // 3)
    os.environ.setdefault("RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", wait)
    os.environ.setdefault("RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S", wait)
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_LOGGER_LEVEL", "error")
    import ray
    import ray.util.client.worker  # needs grpc, which ray alone does not bring
    from ray.util.joblib.ray_backend import RayBackend

    class KeptPool(RayBackend):  # type: ignore[misc]
        """Ray's backend starts its actors anew for each of joblib's loops, seconds each; these stay to the end."""

        def effective_n_jobs(self, n_jobs: int | None) -> int:  # noqa: ARG002 - given by name
            # A step's `n_jobs` is meant for one machine; Ray refuses more than the cluster has.
            return int(ray.cluster_resources()["CPU"])

        def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
            if self._pool is None:
                return int(super().configure(n_jobs, parallel, **options))
            self.parallel = parallel
            return self.effective_n_jobs(n_jobs)

        def terminate(self) -> None:
            self.reset_batch_stats()

    try:
        _connect_to_ray(address)
        # A hundredth of a CPU: on the nodes that have any, without a wait until the whole cluster is free.
        backend = KeptPool(ray_remote_args={"num_cpus": 0.01, "scheduling_strategy": "SPREAD"})
        yield _Cluster(
            workers=lambda: [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"] and _has_cpu(node)],
            fingerprints=_ray_fingerprints,
            joblib={"backend": backend, "n_jobs": -1},
        )
    finally:
        with contextlib.suppress(TimeoutError):  # a head that hangs is waited for without a limit
            within(WAIT_SECONDS, ray.shutdown)


def _connect_to_ray(address: str) -> None:
    """Connect: Ray itself has no limit of time for what comes after the connection."""
    import ray

    try:
        within(ANSWER_SECONDS, lambda: ray.init(address, log_to_driver=False))
    except TimeoutError as cause:
        raise RuntimeError(f"it started no server for this client within {ANSWER_SECONDS} s") from cause


def _has_cpu(node: dict[str, Any]) -> bool:
    return bool(node["Resources"].get("CPU"))


def _ray_fingerprints(factory: str) -> Iterator[tuple[str, Any]]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0)(fingerprint)
    asked = {
        node["NodeManagerAddress"]: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(factory)
        for node in ray.nodes()
        if node["Alive"]
    }
    for name, answer in asked.items():
        try:
            yield name, ray.get(answer, timeout=ANSWER_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever this node raises, it is told with the node's name
            yield name, getattr(error, "cause", error)  # without the traceback of the other machine


# With this, a head below `uv run` does not send its folder to the workers and install it anew there.
_RAY_START = "RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 uv run ray start"

_ENGINES = {
    "dask": _Engine(_dask, "distributed", "uv run dask scheduler", "uv run dask worker tcp://{address}"),
    "ray": _Engine(_ray, "ray[client]", f"{_RAY_START} --head", _RAY_START + " --address={host}:6379"),
}


class ClusterLost(BaseException):
    """Raised in the midst of training; no `except Exception` of the pipeline's takes it for an error of its own."""


def within(seconds: float, work: Callable[[], Found]) -> Found:
    """What `work` returns or raises; it goes on in a thread where it takes longer, as some waits have no limit.

    Raises:
        TimeoutError: it takes longer.
    """
    done: Future[Found] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(seconds)


@contextmanager
def ended_when_lost(workers: Callable[[], object]) -> Iterator[None]:
    """Raise `ClusterLost` in this block when nothing has been heard of any worker for `LOST_SECONDS`.

    Outside of the main thread, which alone can be interrupted, nothing is watched.

    Args:
        workers: asks the cluster; what is empty, an error, and no answer are all alike.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ended, main = threading.Event(), threading.main_thread().ident

    def look() -> None:
        heard = time.monotonic()
        while not ended.wait(LOOK_SECONDS):
            with contextlib.suppress(Exception):  # each cluster's client has errors of its own
                if within(LOST_SECONDS, workers):
                    heard = time.monotonic()
            if time.monotonic() - heard >= LOST_SECONDS and not ended.is_set() and main is not None:
                signal.pthread_kill(main, signal.SIGUSR1)
                return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not ended.is_set():
            raise ClusterLost

    before = signal.signal(signal.SIGUSR1, interrupt)
    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.signal(signal.SIGUSR1, before)
