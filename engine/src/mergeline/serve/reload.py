"""Puts what the manifest says into service, and keeps the old model in service when that cannot be done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import random
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from mergeline.documents import parse
from mergeline.errors import ManifestError, MergelineError, ModelError, SignatureError
from mergeline.fetch import without_secrets
from mergeline.manifest.schema import Manifest, Release, Spec
from mergeline.manifest.signatures import check_release, signature_of
from mergeline.model.artifact import LoadedModel, changed_code, is_compiled, load_model
from mergeline.serve.metrics import Metrics
from mergeline.serve.model_loading import HangingError, Key, ModelCache, ModelLoader, Report, UnfinishedError
from mergeline.serve.model_process import ModelProcess, describe_exception
from mergeline.serve.openapi import example_record
from mergeline.serve.rollout.routing import check_sticky, columns_to_take
from mergeline.serve.settings import Settings
from mergeline.serve.source import is_url, make_source
from mergeline.serve.state import CurrentState, Failure, ServedModel, Serving, State
from mergeline.store.objects import Store
from mergeline.timing import Pause, backoff_seconds

LONGEST_RETRY_SECONDS = 30.0
GRACE_SECONDS = 2.0
"""A model that answers its example too late is ended as a whole, before its process is."""
HANGING_REST = 4
"""Times its time that a model which hangs is left alone: it costs a fifth of a core at most."""

Role = Literal["stable", "candidate"]

logger = logging.getLogger(__name__)


class Reloader:
    """Compares the manifest with what is served, once a poll.

    A manifest that failed is tried again, since its cause may go without an edit (an object that was not
    pushed yet, a store that was away): after one poll, then twice as long each time, up to 30 seconds.
    """

    def __init__(
        self,
        settings: Settings,
        current: CurrentState,
        metrics: Metrics,
        *,
        clock: Callable[[], datetime],
        after_swap: Callable[[], None],
    ) -> None:
        self._settings, self._current, self._metrics = settings, current, metrics
        self._clock, self._after_swap = clock, after_swap
        self._cache = ModelCache(Path(settings.cache), Store(settings.store))
        self._source = make_source(
            settings.manifest, root=Path(settings.root), folder=Path(settings.cache, "signatures")
        )
        self._place = without_secrets(settings.manifest) if is_url(settings.manifest) else settings.manifest
        self._loader = ModelLoader(settings.load_seconds)
        self._starting: dict[str, ModelProcess] = {}
        self._failed_manifest = ""
        self._failures = 0
        self._retry = self._next_prune = self._next_candidate = Pause()
        self._manifest: Manifest | None = None
        self._refusals = 0

    def poll(self) -> None:
        """Look at the manifest once, and act on it. Never raises: what went wrong is in `CurrentState`."""
        digest = ""
        try:
            content = self._source.read()
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            if self._is_served(digest):
                self._recover()
            elif digest != self._failed_manifest or self._retry.is_over(self._clock()):
                self._swap(self._prepare(content, digest))
            self._add_candidate()
            if self._next_prune.is_over(self._clock()):
                self._prune()
        except UnfinishedError:
            pass  # the next poll asks again, unless there is another manifest by then
        except MergelineError as error:
            self._fail(error, digest)
        except BaseException as cause:  # a fault of ours, or an end that a model asked for, must not stop the polling
            logger.exception("the manifest could not be put into service")
            self._fail(MergelineError(describe_exception(cause), where="reload"), digest)

    def _is_served(self, digest: str) -> bool:
        serving = self._current.state.serving
        return serving is not None and serving.manifest == digest

    def _prepare(self, content: bytes, digest: str) -> Serving:
        try:
            text = content.decode()
        except UnicodeDecodeError as cause:  # every other verb refuses it, too
            raise ManifestError(
                f"the file cannot be read: {cause}", where=self._place, hint="save it as UTF-8 text"
            ) from None
        manifest = parse(text, Manifest, self._place, ManifestError)
        release = manifest.spec.stable
        if release is None:
            raise ManifestError(
                "no model is released yet",
                where=f"{self._place}: spec.stable",
                hint="merge a pull request that releases one: mergeline propose",
            )
        stable = self._load(manifest, "stable", release)
        served, wanted = self._current.state.serving, manifest.spec.candidate
        serving = Serving(
            manifest.metadata.name,
            digest,
            stable,
            rollout=manifest.spec.rollout,
            rolling_out=wanted.digest if wanted else None,
        )
        self._manifest, self._refusals = manifest, 0
        if wanted and served and served.candidate and served.candidate.model.digest == wanted.digest:
            with contextlib.suppress(UnfinishedError):
                return self._with_candidate(serving, manifest, wanted)  # it is loaded, and must not pause for this
        return serving

    def _load(self, manifest: Manifest, role: Role, release: Release) -> ServedModel:
        """The model of a release, checked and warm; one that is served already is not loaded again."""
        served, trusted = self._current.state.serving, self._settings.trusted_types
        known = next((one for one in served.models if one.model.digest == release.digest), None) if served else None
        before: ServedModel | None = getattr(served, role, None)

        def get_ready(report: Report) -> ServedModel:
            report("being fetched")
            folder = known.model.folder if known else self._cache.fetch(release.source, release.digest)
            self._check_signature(folder, release)
            report("being loaded")
            model = (
                known.model if known else load_model(folder, digest=release.digest, trusted_types=trusted, defer=True)
            )
            check_model(manifest, role, release, model)
            since = before.since if before and before.model is model else self._clock()
            report("answering its own example")
            if known:
                return replace(known, version=release.version, since=since, takes=None)
            called = changed_code(folder, release.lineage.code, trusted[0].partition(".")[0]) if trusted else ()
            if called:
                logger.warning("version %s: changed since it was trained: %s", release.version, ", ".join(called))
            ready, compiled = ServedModel(release.version, model, since, changed=called), is_compiled(folder)
            if served or not compiled:
                tried = self._tried(ready, compiled=compiled)
                if not compiled:
                    return tried
            ready.warm_up()
            return ready

        key = Key(release.digest, f"{role} {manifest.metadata.name} {release.model_dump_json()}")
        return self._loader.run(key, f"spec.{role}", get_ready)

    def _tried(self, model: ServedModel, *, compiled: bool) -> ServedModel:
        """The model in a process of its own that has answered its example; what is compiled is only tried there."""
        digest = model.model.digest
        process = self._starting[digest] = ModelProcess(
            model.model,
            self._settings.trusted_types,
            compiled=compiled,
            load_seconds=self._settings.load_seconds + GRACE_SECONDS,
            most_seconds=self._settings.max_seconds,
        )
        tried = replace(model, process=process)
        try:
            with _time_limit(self._settings.load_seconds, process):
                tried.warm_up()
        except BaseException:
            process.close()
            raise
        finally:
            self._starting.pop(digest, None)
        if compiled:
            process.close()
        return tried

    def _pause(self, error: MergelineError, failures: int) -> timedelta:
        """How long to wait after so many failures, of which this is the last."""
        wait = backoff_seconds(failures, first=self._settings.poll_seconds, longest=LONGEST_RETRY_SECONDS)
        rest = HANGING_REST * self._settings.load_seconds if isinstance(error, HangingError) else 0.0
        return timedelta(seconds=max(wait, rest))

    def _with_candidate(self, serving: Serving, manifest: Manifest, release: Release) -> Serving:
        """The same with its candidate beside, or with the reason why there is none.

        Raises:
            UnfinishedError: it is being loaded.
        """
        try:
            signature = serving.stable.model.signature
            check_sticky(serving.rollout, signature)
            candidate = self._load(manifest, "candidate", release)
            takes = columns_to_take(signature, candidate.model.signature)
            return replace(serving, candidate=replace(candidate, takes=takes), refused=None)
        except MergelineError as error:
            refusal = error
        except UnfinishedError:
            raise
        except BaseException as cause:  # whatever a candidate does while it loads, stable goes on
            logger.exception("the candidate could not be loaded")
            refusal = MergelineError(describe_exception(cause), where="spec.candidate")
        known = serving.refused
        if known is None or str(known.error) != str(refusal):
            logger.warning("the candidate is not in service, stable is: %s", refusal)
            known = Failure(refusal, self._clock())
        return replace(serving, refused=known)

    def _add_candidate(self) -> None:
        """Load the candidate that is wanted and not there; after a refusal again, after ever longer waits."""
        state, manifest = self._current.state, self._manifest
        serving, wanted = state.serving, manifest.spec.candidate if manifest else None
        if not (manifest and wanted and serving) or serving.candidate or state.failure:
            return
        now = self._clock()
        if serving.refused is not None and not self._next_candidate.is_over(now):
            return
        result = self._with_candidate(serving, manifest, wanted)
        if result.candidate is not None:
            self._swap(result)
            return
        self._metrics.reload_failed()
        if result.refused is not None:
            self._next_candidate = Pause(now, self._pause(result.refused.error, self._refusals))
        self._refusals += 1
        self._current.state = State(result)

    def _check_signature(self, folder: Path, release: Release) -> None:
        signing = self._settings.signing
        if signing.policy == "off":
            return
        file = self._source.signature(signature_of(release)).absolute()
        try:
            check_release(folder, Path(self._settings.root), signing, str(file))
        except SignatureError:
            if is_url(self._settings.manifest):
                file.unlink(missing_ok=True)  # a copy: it may be signed anew there, and is fetched anew
            raise

    def close(self) -> None:
        """End the processes of the models in service."""
        for process in self._processes():
            process.close()

    def _processes(self) -> list[ModelProcess]:
        serving = self._current.state.serving
        return [model.process for model in serving.models if model.process] if serving else []

    def _swap(self, serving: Serving) -> None:
        first, former = self._current.state.serving is None, self._processes()
        self._current.state = State(serving)
        for process in former:
            if process not in self._processes():
                process.close_after(self._settings.max_seconds)
        self._failed_manifest, self._failures = "", 0
        self._metrics.reload_succeeded(serving, self._clock())
        stable, candidate, url = serving.stable, serving.candidate, self._settings.url
        place = f" at {url}" if url else ""
        logger.info("serving %s version %d (%s)%s", serving.name, stable.version, stable.model.digest, place)
        if candidate is not None:
            logger.info("  candidate: version %d (%s)", candidate.version, candidate.model.digest)
        if first and url:
            record = json.dumps(example_record(stable.model.signature))
            header = "content-type: application/json"
            logger.info("  try: curl -s %s/predict -H '%s' -d %s", url, header, shlex.quote(record))
        self._after_swap()
        self._next_prune = Pause()

    def _prune(self) -> None:
        """Delete models that nobody names any more: after each swap, and hourly, which shows that ours are in use."""
        self._next_prune = Pause(self._clock(), timedelta(hours=1))
        spec = self._manifest.spec if self._manifest else Spec()
        named = {each.digest for each in (spec.stable, spec.previous, spec.candidate) if each}
        self._loader.forget(named)
        for digest, process in list(self._starting.items()):
            if digest not in named:
                process.close()
        try:
            self._cache.prune(named)
        except OSError as cause:
            logger.warning("old models cannot be deleted: %s", cause)

    def _recover(self) -> None:
        if self._current.state.failure is not None:
            self._current.state = State(self._current.state.serving)
            self._failed_manifest, self._failures = "", 0
            self._metrics.reload_recovered()
            logger.info("the manifest is well again")

    def _fail(self, error: MergelineError, digest: str) -> None:
        now = self._clock()
        self._metrics.reload_failed()
        self._failures = self._failures + 1 if digest == self._failed_manifest else 1
        self._failed_manifest = digest
        self._retry = Pause(now, self._pause(error, self._failures - 1))
        state = self._current.state
        if state.failure is None or str(state.failure.error) != str(error):
            self._current.state = State(state.serving, Failure(error, now))
            kept = "the old model stays" if state.serving else "there is no model yet"
            logger.warning("the manifest is not in service, %s: %s", kept, error)


@contextlib.contextmanager
def _time_limit(seconds: float, process: ModelProcess) -> Iterator[None]:
    """End the process if what is done with it takes longer.

    Raises:
        HangingError: it did.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        process.close()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if late.is_set():
            raise HangingError(
                f"the model did not answer its own example in {seconds:g} seconds, and its process was ended",
                hint="raise serve.load_seconds if it is only slow; a model that hangs must be replaced",
            )


def check_model(manifest: Manifest, role: Role, release: Release, model: LoadedModel) -> None:
    """See that the loaded model is the one that the manifest describes.

    Raises:
        ModelError: it has another name or another origin.
    """
    name = model.signature.name
    if name != manifest.metadata.name:
        raise ModelError(
            f"the model is called {name!r}, the manifest deploys {manifest.metadata.name!r}",
            where="metadata.name",
            hint="release a model of this name: mergeline propose",
        )
    for part in ("code", "data", "params", "environment"):
        promised, found = getattr(release.lineage, part), getattr(model.lineage, part)
        if promised != found:
            raise ModelError(
                f"the model was made from {part} {found}, the manifest says {promised}",
                where=f"spec.{role}.lineage.{part}",
                hint="let `mergeline propose` write the manifest",
            )


class Poller:
    """Calls `tasks` one after another in a thread of its own, again and again until it is stopped.

    The pauses differ by up to a tenth from `seconds`, so that many servers don't all ask at the same moment.

    Attributes:
        restarts: how often a task failed, and the thread went on with the next one.
    """

    def __init__(self, tasks: Sequence[Callable[[], None]], seconds: float) -> None:
        self._tasks, self._seconds = tasks, seconds
        self.restarts = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Begin, with a first poll at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the poll under way; a poll that takes longer than 5 seconds is abandoned."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopped.is_set():
            for task in self._tasks:
                try:
                    task()
                except BaseException:  # a fault of one task must end neither the others nor this thread
                    self.restarts += 1
                    logger.exception("a task of the server failed, and goes on")
            self._stopped.wait(self._seconds * random.uniform(0.9, 1.1))  # noqa: S311 - no secret
