"""Runs joblib's work on a cluster while a pipeline is fitted, and sees to it that the model comes out the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from mergeline.errors import CodeError
from mergeline.model.environment import installed_environment, team_package
from mergeline.model.lineage import git_tree

if TYPE_CHECKING:
    from mergeline.params import ModelParams

THREADS = "threads"
"""This machine's cores, as scikit-learn and the pipeline's own `n_jobs` use them."""

WAIT_SECONDS = 10
"""For the scheduler to answer, and for a first worker."""


@contextmanager
def training_backend(model: ModelParams) -> Iterator[None]:
    """What fits in this block and asks joblib for more than one process gets the workers of `model.backend`.

    Raises:
        CodeError: Dask is not installed, the scheduler does not answer or has no workers, or a worker has other
            libraries or other code than are here, with which it would make another model.
    """
    if model.backend == THREADS:
        yield
        return
    import joblib

    with ExitStack() as stack:
        client = stack.enter_context(_connected(model))
        stack.enter_context(joblib.parallel_config(backend="dask", client=client))
        yield


def _connected(model: ModelParams) -> Any:
    """A Dask client whose workers make the models that would be made here."""
    where = f"params.yaml: model.backend: {model.backend}"
    try:
        from distributed import Client
    except ImportError as cause:
        hint = f"uv add distributed, here and for the workers, or set `backend: {THREADS}`: the model is the same"
        raise CodeError(f"{cause.name} is not installed", where=where, hint=hint) from cause
    address = model.backend.replace("dask://", "tcp://")
    try:
        client = Client(address, timeout=WAIT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as cause:
        hint = f"start it (`dask scheduler`), check the address, or set `backend: {THREADS}`: the model is the same"
        raise CodeError(f"the scheduler does not answer within {WAIT_SECONDS} s", where=where, hint=hint) from cause
    try:
        _require_equal_workers(client, model, where)
    except BaseException:
        client.close()
        raise
    return client


def _require_equal_workers(client: Any, model: ModelParams, where: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WAIT_SECONDS)
    except TimeoutError as cause:
        hint = f"start some where the repository is installed: uv run dask worker {client.scheduler.address}"
        raise CodeError(f"the scheduler has no workers after {WAIT_SECONDS} s", where=where, hint=hint) from cause
    own = fingerprint(model.factory)
    for worker, found in client.run(fingerprint, model.factory, on_error="return").items():
        if found != own:
            what = "has other libraries or other code than are here"
            if isinstance(found, Exception):
                what = f"cannot make this model: {type(found).__name__}: {found}"
            hint = "start the workers from this commit: git checkout, uv sync --locked, uv run dask worker"
            raise CodeError(f"the worker {worker} {what}", where=where, hint=hint)


def fingerprint(factory: str) -> tuple[str, str]:
    """What a model's bytes depend on where this runs: the libraries, and the team's package."""
    return installed_environment(factory).digest, git_tree(team_package(factory))
